package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// Pair returns what the files of a tls table say: a certificate and its key, as PEM.
func (t *TLS) Pair() (cert, key []byte) { return t.cert, t.key }

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
	if err == nil {
		t.from, t.until = pair.Leaf.NotBefore, pair.Leaf.NotAfter
		return
	}
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	if hasCertificate(t.cert) { // then it is the key that does not fit
		v.wrong(path+".key", "key is the PEM file of the private key that cert was made for; are both files new?",
			"tls: %s: %v", t.Key, err)
	} else {
		v.wrong(path+".cert", "cert is a PEM file: the server's certificate, then those that signed it", "tls: %s: %v",
			t.Cert, err)
	}
}

// hasCertificate reports whether the first certificate in a PEM file can be parsed.
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
