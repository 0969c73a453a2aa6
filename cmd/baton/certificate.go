package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
)

// certificate is what the files of a tls table say. The master reads them; workers never do.
type certificate struct {
	Listener string `json:"listener"` // its name
	Cert     []byte `json:"cert"`     // PEM
	Key      []byte `json:"key"`      // PEM
}

// certificate reads the files of a tls table, once, and checks that they belong together.
func (v *verifier) certificate(path string, t *TLS) {
	var cerr, kerr error
	t.pair.Cert, cerr = os.ReadFile(t.Cert)
	t.pair.Key, kerr = os.ReadFile(t.Key)
	if cerr != nil {
		v.wrong(path+".cert", "", "tls: %v", cerr)
	}
	if kerr != nil {
		v.wrong(path+".key", "", "tls: %v", kerr)
	}
	if cerr != nil || kerr != nil {
		return
	}
	if _, err := tls.X509KeyPair(t.pair.Cert, t.pair.Key); err != nil {
		v.notPair(path, t, err)
	}
}

// notPair says which of the two files is to blame, as far as that can be known: a certificate is public, and can be
// judged alone.
func (v *verifier) notPair(path string, t *TLS, err error) {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	if !hasCertificate(t.pair.Cert) {
		v.wrong(path+".cert", "cert is a PEM file: the server's certificate, then those that signed it", "tls: %s: %v", t.Cert, err)
		return
	}
	v.wrong(path+".key", "key is the PEM file of the private key that cert was made for; are both files new?", "tls: %s: %v", t.Key, err)
}

// certificateFiles are watched as the config file is.
func (f *File) certificateFiles() []string {
	var files []string
	for _, l := range f.Listen {
		if l.TLS != nil {
			files = append(files, l.TLS.Cert, l.TLS.Key)
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// certificate is the listener's, as workers get it.
func (l Listen) certificate() certificate {
	c := l.TLS.pair
	c.Listener = l.Name
	return c
}

// tlsConfigs are what listeners are served with, by their names.
func (p payload) tlsConfigs() (map[string]*tls.Config, error) {
	all := map[string]*tls.Config{}
	for _, c := range p.Certificates {
		pair, err := tls.X509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", c.Listener, err)
		}
		all[c.Listener] = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	return all, nil
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
