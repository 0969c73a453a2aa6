package main

import (
	"crypto/tls"
	"fmt"

	"baton/cmd/baton/internal/config"
)

// certificate is what the files of a tls table say. The master reads them; workers never do.
type certificate struct {
	Listener string `json:"listener"` // its name
	Cert     []byte `json:"cert"`     // PEM
	Key      []byte `json:"key"`      // PEM
}

// listenerCertificate is the listener's, as workers get it.
func listenerCertificate(l config.Listen) certificate {
	cert, key := l.TLS.Pair()
	return certificate{Listener: l.Name, Cert: cert, Key: key}
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
