package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
)

// certificate reads the files of a tls table, once, and checks that they belong together.
func (v *verifier) certificate(path string, t *TLS) {
	var cerr, kerr error
	t.cert, _, cerr = ReadFile(t.Cert)
	t.key, _, kerr = ReadFile(t.Key)
	if cerr != nil {
		v.wrong(path+".cert", "", "tls: %v", cerr)
	}
	if kerr != nil {
		v.wrong(path+".key", "", "tls: %v", kerr)
	}
	if cerr != nil || kerr != nil {
		return
	}
	pair, err := tls.X509KeyPair(t.cert, t.key)
	if err != nil {
		v.notPair(path, t, err)
		return
	}
	t.from, t.until = pair.Leaf.NotBefore, pair.Leaf.NotAfter
}

// notPair says which of the two files is to blame, as far as that can be known: a certificate is public, and can be
// judged alone.
func (v *verifier) notPair(path string, t *TLS, err error) {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	if !hasCertificate(t.cert) {
		v.wrong(path+".cert", "cert is a PEM file: the server's certificate, then those that signed it", "tls: %s: %v", t.Cert, err)
		return
	}
	v.wrong(path+".key", "key is the PEM file of the private key that cert was made for; are both files new?", "tls: %s: %v", t.Key, err)
}

// CertificateFiles are watched as the config file is.
func (f *File) CertificateFiles() []string {
	var files []string
	for _, l := range f.Listen {
		if l.TLS != nil {
			files = append(files, l.TLS.Cert, l.TLS.Key)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// hasCertificate reports whether a file is one of certificates.
func hasCertificate(text []byte) bool {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return false
		}
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err == nil
		}
		text = rest
	}
}

// Pair is what the files of a tls table say: a certificate and its key, as PEM.
func (t *TLS) Pair() (cert, key []byte) { return t.cert, t.key }
