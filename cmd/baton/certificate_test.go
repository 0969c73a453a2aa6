package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyPair is a certificate for 127.0.0.1 and its key, as PEM.
func keyPair(t *testing.T) (cert, key []byte) {
	t.Helper()
	return keyPairOf(t, time.Time{}, time.Now().Add(time.Hour))
}

// keyPairOf is valid in a time.
func keyPairOf(t *testing.T, from, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

const tlsSite = `
[[listen]]
address = "127.0.0.1:8443"
transport = "tls"
tls = { cert = "cert.pem", key = "key.pem" }
`

// TestCertificates: what the files say travels with the configuration, they are watched with it, and a pair that does
// not match is a mistake at the key, until both files are new.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	oldCert, oldKey := keyPair(t)
	newCert, newKey := keyPair(t)
	write("site.toml", []byte(tlsSite))
	write("cert.pem", oldCert)
	write("key.pem", oldKey)
	run := callOf("run")
	if err := run.parse([]string{"--config", filepath.Join(dir, "site.toml")}); err != nil {
		t.Fatal(err)
	}
	l, err := newLoader(run)
	if err != nil {
		t.Fatal(err)
	}
	want := func(cert, key []byte) {
		t.Helper()
		c, err := l.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var p payload
		if err := json.Unmarshal(c.Payload, &p); err != nil {
			t.Fatal(err)
		}
		if len(p.Certificates) != 1 || !bytes.Equal(p.Certificates[0].Cert, cert) ||
			!bytes.Equal(p.Certificates[0].Key, key) {
			t.Error("the workers do not get what the files say")
		}
		if got := p.Certificates[0].Listener; got != c.Listen[0].Name {
			t.Errorf("the certificate is for %q", got)
		}
		if _, err := p.tlsConfigs(); err != nil {
			t.Error(err)
		}
		if want := []string{
			filepath.Join(dir, "site.toml"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"),
		}; !slices.Equal(c.Watch, want) {
			t.Errorf("watches %v", c.Watch)
		}
	}
	want(oldCert, oldKey)
	write("cert.pem", newCert)
	_, err = l.Load(t.Context())
	if err == nil || !strings.Contains(err.Error(), ":5:") || !strings.Contains(explain(err), "are both files new?") {
		t.Errorf("half a pair: %v", err)
	}
	write("key.pem", newKey)
	want(newCert, newKey)
}

// TestCertificateDates: what clients will refuse is served, with a warning.
func TestCertificateDates(t *testing.T) {
	day := func(y int) time.Time { return time.Date(y, 3, 4, 5, 6, 7, 0, time.UTC) }
	for _, tt := range []struct {
		from, until time.Time
		want        string // at the end
	}{
		{day(2001), time.Now().Add(time.Hour), ""},
		{day(2001), day(2002), "has expired on 2002-03-04 05:06 UTC"},
		{day(2101), day(2102), "is not valid before 2101-03-04 05:06 UTC"},
	} {
		dir := t.TempDir()
		cert, key := keyPairOf(t, tt.from, tt.until)
		for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, warnings, _, err := loadIn(t, dir, tlsSite)
		if err != nil || len(warnings) != min(len(tt.want), 1) {
			t.Errorf("%q, %v", warnings, err)
			continue
		}
		want := "listener 127.0.0.1:8443: the certificate in " + filepath.Join(dir, "cert.pem") + " " + tt.want
		if len(warnings) > 0 && warnings[0] != want {
			t.Errorf("%s, want %s", warnings[0], want)
		}
	}
}
