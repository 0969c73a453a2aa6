package promises_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// pair is a certificate for 127.0.0.1 and its key, as PEM.
type pair struct{ name, cert, key string }

func newPair(tb testing.TB, name string) pair {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{
		name: name,
		cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

// client trusts the certificate, and no other.
func (p pair) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(p.cert))
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// withListen adds a listener to a site.
func (s site) withListen(address string, lines ...string) site {
	s.routes += fmt.Sprintf("[[listen]]\naddress = %q\n%s\n", address, strings.Join(lines, "\n"))
	return s
}

// startTLS starts a baton that serves over TLS, too, at the address.
func startTLS(tb testing.TB, s site, p pair) (b *mastertest.Baton, address string) {
	tb.Helper()
	address = mastertest.FreePort(tb)
	s = s.withListen(address, `transport = "tls"`, `tls = { cert = "cert.pem", key = "key.pem" }`)
	return mastertest.Start(tb, mastertest.Options{
		Config: s.String(), Files: map[string]string{"cert.pem": p.cert, "key.pem": p.key},
	}), address
}

// tlsClient sends one request after the other, on the same connection for as long as the server does not announce its
// end. It never sends a request again.
type tlsClient struct {
	address  string
	config   *tls.Config
	requests atomic.Int64
	dials    atomic.Int64
}

func (c *tlsClient) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.connection(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *tlsClient) connection(ctx context.Context) error {
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: mastertest.Timeout}, "tcp", c.address, c.config)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer nc.Close()
	c.dials.Add(1)
	r := bufio.NewReader(nc)
	for i := 0; ctx.Err() == nil; i++ {
		_ = nc.SetDeadline(time.Now().Add(mastertest.Timeout))
		body := strings.Repeat("x", i%3000)
		if _, err := fmt.Fprintf(nc, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body),
			body); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return fmt.Errorf("response %d: %w", i, err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != body || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("response %d: %s, %d bytes of %d, %w", i, resp.Status, len(got), len(body), err)
		}
		c.requests.Add(1)
		if resp.Close {
			if _, err := r.ReadByte(); !errors.Is(err, io.EOF) { // a goodbye and no reset
				return fmt.Errorf("after the last response: %w", err)
			}
			return nil
		}
		sleep(time.Duration(i%10) * time.Millisecond)
	}
	return nil
}

// TestTLSReloadsLoseNothing is P1 over TLS, HTTP/1.1: connections stay until they have been told to go.
func TestTLSReloadsLoseNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	p := newPair(t, "one")
	b, address := startTLS(t, unwatchedSite(t), p)
	c := &tlsClient{address: address, config: p.client()}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return c.requests.Load() > 100 })
	pace(t, 10, 300*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	cancel()
	all.Wait()
	wantNoCut(t, b)
	t.Logf("%d requests on %d connections", c.requests.Load(), c.dials.Load())
}

// wantNoCut checks that all generations have ended by themselves.
func wantNoCut(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	if st := b.AwaitSettled(); st.CutRequests+st.CutConnections != 0 {
		tb.Errorf("cut: %d requests, %d connections", st.CutRequests, st.CutConnections)
	}
}

// TestTLSSessionsResume: a client that comes back resumes its session, with whichever worker of whichever generation,
// and when the master was killed meanwhile.
func TestTLSSessionsResume(t *testing.T) {
	t.Parallel()
	p := newPair(t, "one")
	b, address := startTLS(t, unwatchedSite(t), p)
	config := p.client()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	resumed := func() bool {
		nc, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Error(err)
		}
		return nc.ConnectionState().DidResume
	}
	if resumed() {
		t.Error("the first session was resumed")
	}
	want := func(when string) {
		for range 6 {
			if !resumed() {
				t.Errorf("a session was not resumed %s", when)
			}
		}
	}
	want("with another worker")
	for range 3 {
		b.Reload("--wait")
		want("after a reload")
	}
	before := b.Status()
	b.Kill(before.MasterPID)
	b.AwaitStatus("another master",
		func(s mastertest.Status) bool { return s.MasterPID != before.MasterPID && s.Settled() })
	b.Reload("--wait")
	want("after the death of a master")
}

// TestCertificateFiles: both files, written one after the other, are one reload; half a pair changes nothing.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	one, two, three := newPair(t, "one"), newPair(t, "two"), newPair(t, "three")
	b, address := startTLS(t, watchedSite(t), one)
	served := func() string {
		nc, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "one" {
		t.Fatalf("served: %s", got)
	}
	b.WriteFile("cert.pem", two.cert)
	sleep(300 * time.Millisecond)
	b.WriteFile("key.pem", two.key)
	st := b.AwaitStatus("one reload", func(s mastertest.Status) bool { return s.Generation == 2 && s.Settled() })
	if got := served(); got != "two" || !st.LastReload.OK {
		t.Errorf("served: %s; %+v", got, st.LastReload)
	}

	b.WriteFile("key.pem", three.key)
	st = b.AwaitStatus("a failed reload", func(s mastertest.Status) bool { return !s.LastReload.OK })
	if !strings.Contains(st.LastReload.Error, "key.pem") || st.Generation != 2 {
		t.Errorf("generation %d, reason %q", st.Generation, st.LastReload.Error)
	}
	if got := served(); got != "two" {
		t.Errorf("served after half a pair: %s", got)
	}

	// By rename, as a tool does that renews certificates.
	for name, content := range map[string]string{"cert.pem": three.cert, "key.pem": three.key} {
		b.WriteFile("."+name, content)
		if err := os.Rename(b.Path("."+name), b.Path(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.AwaitStatus("another reload", func(s mastertest.Status) bool { return s.Generation == 3 && s.Settled() })
	if got := served(); got != "three" {
		t.Errorf("served: %s", got)
	}
}
