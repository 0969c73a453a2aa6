package worker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"baton/worker/wire"
)

func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// resumes says hello and reports whether the session was resumed.
func resumes(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		far, err := ln.Accept()
		if err != nil {
			return
		}
		defer far.Close()
		_, _ = io.WriteString(tls.Server(far, server), "x")
	}()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	c := tls.Client(near, client)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().DidResume
}

// TestTicketsRotate: sessions of old keys are resumed while the key is there; what is apart by its label stays so.
func TestTicketsRotate(t *testing.T) {
	one, two := []byte("one"), []byte("two")
	env := NewDirector(wire.Setup{Tickets: [][]byte{one}}, nil, nil, slog.New(slog.DiscardHandler)).Env()
	config := serverConfig(t)
	other := config.Clone()
	env.ShareTickets(config, "web")
	env.ShareTickets(other, "other")
	client := &tls.Config{
		InsecureSkipVerify: true, ServerName: "h", ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	want := func(server *tls.Config, want bool, when string) {
		t.Helper()
		if got := resumes(t, server, client); got != want {
			t.Errorf("%s: resumed: %v, want %v", when, got, want)
		}
	}
	want(config, false, "the first time")
	want(config, true, "again")
	env.tickets.set([][]byte{two, one})
	want(config, true, "after a new key has come")
	env.tickets.set([][]byte{two})
	want(config, true, "after the old key has gone, with a ticket of the new one")
	want(other, false, "with another label")
	env.tickets.set([][]byte{one})
	want(other, false, "with a key that is gone")
}
