package httpworker

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/worker/workertest"
)

// certificate is one for 127.0.0.1 that is good for all tests.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// clientTLS trusts certificate.
func clientTLS(protos ...string) *tls.Config {
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(certificate().Certificate[0])
	if err != nil {
		panic(err)
	}
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", NextProtos: protos}
}

func startTLS(t testing.TB, s Settings) *workertest.Process {
	t.Helper()
	return startTLSWith(t, s, workertest.Options{})
}

func startTLSWith(t testing.TB, s Settings, o workertest.Options) *workertest.Process {
	t.Helper()
	if s.Handler == nil {
		s.Handler = http.HandlerFunc(echo)
	}
	s.TLS = map[string]*tls.Config{"": {Certificates: []tls.Certificate{certificate()}}}
	o.Transport = "tls"
	return workertest.Start(t, &Worker{Settings: s}, o)
}

// tlsClient is a TLS client that does nothing by itself.
type tlsClient struct {
	*client
	tls *tls.Conn
}

func dialTLS(t testing.TB, p *workertest.Process, config *tls.Config) *tlsClient {
	t.Helper()
	c := dial(t, p)
	tc := tls.Client(c.TCPConn, config)
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.r = bufio.NewReader(tc)
	return &tlsClient{client: c, tls: tc}
}

func (c *tlsClient) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.tls, s); err != nil {
		c.t.Fatal(err)
	}
}

func TestTLSRequests(t *testing.T) {
	p := startTLS(t, Settings{MaxHeaderSize: 300, Handler: http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request,
	) {
		if r.TLS == nil || r.TLS.ServerName == "" && r.TLS.Version == 0 {
			t.Error("the handler does not see TLS")
		}
		echo(w, r)
	})})
	c := dialTLS(t, p, clientTLS())
	c.send(get("/a"))
	c.want(200, "/a")
	c.send("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000))
	c.want(200, "/b"+strings.Repeat("x", 40000))
	c.send(get("/c") + get("/d"))
	c.want(200, "/c")
	c.want(200, "/d")
	c.send(sized("/e", 300))
	c.want(200, "/e")
	c.send(sized("/f", 301))
	c.want(431, "")
	c.wantEOF()
}

// TestTLSDrain: an idle connection stays open, is answered once more, and ends with a goodbye and without a reset.
func TestTLSDrain(t *testing.T) {
	p := startTLS(t, Settings{})
	idle, fresh, answered := dialTLS(t, p, clientTLS()), dialTLS(t, p, clientTLS()), dialTLS(t, p, clientTLS())
	silent := dial(t, p)
	idle.send(get("/a"))
	idle.want(200, "/a")
	answered.send(get("/a"))
	answered.want(200, "/a")
	p.Drain(never)
	idle.send("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + get("/pipelined"))
	idle.want(200, "/bbody")
	idle.wantLast(200, "/pipelined")
	fresh.send(get("/c"))
	fresh.wantLast(200, "/c")
	// One that says nothing until now: it was accepted, so it is served.
	tc := tls.Client(silent.TCPConn, clientTLS())
	if _, err := io.WriteString(tc, get("/d")); err != nil {
		t.Fatal(err)
	}
	silent.r = bufio.NewReader(tc)
	silent.wantLast(200, "/d")
	if !p.Serving() {
		t.Fatal("the worker has gone while a connection was open")
	}
	answered.send(get("/e"))
	answered.wantLast(200, "/e")
	_ = answered.Close()
	for _, c := range []*client{idle.client, fresh.client, silent} {
		_ = c.Close()
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := p.Counters.CutConns.Load() + p.Counters.CutRequests.Load(); n != 0 {
		t.Errorf("cut %d", n)
	}
}

func TestTLSTimeLimits(t *testing.T) {
	const idleTimeout = 300 * time.Millisecond
	half := dialTLS(t, startTLS(t, Settings{IdleTimeout: time.Hour, ReceiveTimeout: idleTimeout / 2}), clientTLS())
	half.send("GET / HT")
	half.wantClosed()

	p := startTLS(t, Settings{IdleTimeout: idleTimeout, ReceiveTimeout: idleTimeout / 2})
	started := time.Now()
	silent, idle := dial(t, p), dialTLS(t, p, clientTLS())
	h2 := dialTLS(t, p, clientTLS("h2"))
	h2.send(preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	for _, c := range []*client{silent, idle.client} {
		c.wantClosed()
		if took := time.Since(started); took < idleTimeout {
			t.Errorf("an idle connection was closed after %v", took)
		}
	}
	h2.wantClosed()
}

func TestTLSStop(t *testing.T) {
	p := startTLS(t, Settings{})
	silent, idle := dial(t, p), dialTLS(t, p, clientTLS())
	idle.send(get("/"))
	idle.want(200, "/")
	p.Stop(time.Hour)
	silent.wantClosed()
	idle.wantEOF()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestTLSCut: a client that does not read does not hold up the end.
func TestTLSCut(t *testing.T) {
	p := startTLS(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.CopyN(w, zeros{}, 1<<30)
	})})
	c := dialTLS(t, p, clientTLS())
	c.send(get("/"))
	if _, err := c.r.ReadByte(); err != nil {
		t.Fatal(err)
	}
	p.Drain(50 * time.Millisecond)
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.Counters.CutRequests.Load() != 1 || p.Counters.CutConns.Load() != 1 {
		t.Errorf("cut %d requests, %d connections", p.Counters.CutRequests.Load(), p.Counters.CutConns.Load())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestPlainOnTLS(t *testing.T) {
	p := startTLS(t, Settings{})
	c := dial(t, p)
	c.send(get("/"))
	c.want(400, "")
	c.wantEOF()
}

// TestResume: a client that has been with one worker resumes its session with another.
func TestResume(t *testing.T) {
	keys := [][]byte{[]byte("new"), []byte("old")}
	first := startTLSWith(t, Settings{}, workertest.Options{Tickets: keys[1:]})
	second := startTLSWith(t, Settings{}, workertest.Options{Tickets: keys})
	other := startTLSWith(t, Settings{}, workertest.Options{Tickets: [][]byte{[]byte("other")}})
	config := clientTLS()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	for _, step := range []struct {
		p    *workertest.Process
		want bool
	}{{first, false}, {first, true}, {second, true}, {other, false}} {
		c := dialTLS(t, step.p, config)
		c.send(get("/"))
		c.want(200, "/") // the ticket comes before it
		if got := c.tls.ConnectionState().DidResume; got != step.want {
			t.Errorf("resumed: %v, want %v", got, step.want)
		}
	}
}

// h2Client is net/http's, over one of the two ways to speak HTTP/2.
func h2Client(t testing.TB, tls bool) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	if tls {
		tr.TLSClientConfig = clientTLS()
		tr.Protocols.SetHTTP2(true)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: never}
}

func scheme(tls bool) string {
	if tls {
		return "https://"
	}
	return "http://"
}

func startH2(t testing.TB, tls bool, s Settings) *workertest.Process {
	if tls {
		return startTLS(t, s)
	}
	return start(t, s)
}

func overBoth(t *testing.T, f func(t *testing.T, tls bool)) {
	t.Run("tls", func(t *testing.T) { f(t, true) })
	t.Run("h2c", func(t *testing.T) { f(t, false) })
}

func TestHTTP2Requests(t *testing.T) {
	overBoth(t, func(t *testing.T, tls bool) {
		p := startH2(t, tls, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || (r.TLS != nil) != tls {
				t.Errorf("%s, TLS %v", r.Proto, r.TLS)
			}
			echo(w, r)
		})})
		client := h2Client(t, tls)
		body := strings.Repeat("x", 300_000)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				resp, err := client.Post(scheme(tls)+p.Addr()+"/a", "", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || string(b) != "/a"+body {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			})
		}
		all.Wait()
		if n := p.Counters.Requests.Load(); n != 20 {
			t.Errorf("%d requests were counted, want 20", n)
		}
		if n := p.Counters.Active.Load(); n != 0 {
			t.Errorf("%d requests are counted as active", n)
		}
	})
}

// TestHTTP2Drain: a stream that is open when the drain begins is finished, and then the connection ends.
func TestHTTP2Drain(t *testing.T) {
	overBoth(t, func(t *testing.T, tls bool) {
		entered, leave := make(chan bool), make(chan bool)
		p := startH2(t, tls, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				entered <- true
				<-leave
			}
			echo(w, r)
		})})
		client := h2Client(t, tls)
		answer := make(chan error, 1)
		go func() {
			resp, err := client.Post(scheme(tls)+p.Addr()+"/slow", "", strings.NewReader("body"))
			if err == nil {
				b, _ := io.ReadAll(resp.Body)
				if _ = resp.Body.Close(); string(b) != "/slowbody" {
					t.Errorf("got %q", b)
				}
			}
			answer <- err
		}()
		<-entered
		p.Drain(never)
		close(leave)
		if err := <-answer; err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		if n := p.Counters.CutConns.Load(); n != 0 {
			t.Errorf("%d connections were cut", n)
		}
	})
}

// TestHTTP2TwoGoodbyes: the first GOAWAY names the largest stream, requests behind it are still served, and the second
// comes when the client has answered the PING.
func TestHTTP2TwoGoodbyes(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	f := &rawH2{client: c}
	c.send(preface + frame(frameSettingsType, 0, 0, ""))
	c.send(frame(frameHeaders, flagEndHeaders|flagEndStream, 1, rawGet))
	f.await(frameData, 1)
	p.Drain(never)
	if g := f.await(frameGoAway, 0); !strings.HasPrefix(g, "\x7f\xff\xff\xff\x00\x00\x00\x00") {
		t.Fatalf("the first GOAWAY is %q", g)
	}
	ping := f.await(framePing, 0)
	c.send(frame(frameHeaders, flagEndHeaders|flagEndStream, 3, rawGet))
	f.await(frameData, 3)
	c.send(frame(framePing, flagAck, 0, ping))
	if g := f.await(frameGoAway, 0); !strings.HasPrefix(g, "\x00\x00\x00\x03\x00\x00\x00\x00") {
		t.Fatalf("the second GOAWAY is %q", g)
	}
	c.wantEOF()
	_ = c.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHTTP2LateConnection: one that begins when the drain has begun has its request served before it is told to go.
func TestHTTP2LateConnection(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	c.send("P") // so that it is accepted for sure
	waitFor(t, func() bool { return p.Counters.Conns.Load() == 1 })
	p.Drain(never)
	c.send(preface[1:] + frame(frameSettingsType, 0, 0, ""))
	f := &rawH2{client: c}
	c.send(frame(frameHeaders, flagEndHeaders|flagEndStream, 1, rawGet))
	if g := f.await(frameGoAway, 0); !strings.HasPrefix(g, "\x7f\xff\xff\xff") {
		t.Fatalf("the first GOAWAY is %q", g)
	}
	f.await(frameGoAway, 0)
	if !f.seen[frameData] {
		f.await(frameData, 1)
	}
}

func TestHTTP2CutAndStop(t *testing.T) {
	overBoth(t, func(t *testing.T, tls bool) {
		entered := make(chan bool)
		p := startH2(t, tls, Settings{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			entered <- true
			<-r.Context().Done()
		})})
		client := h2Client(t, tls)
		for range 2 {
			go func() {
				if resp, err := client.Get(scheme(tls) + p.Addr()); err == nil {
					_ = resp.Body.Close()
					t.Error("a cut request was answered")
				}
			}()
			<-entered
		}
		if n := p.Counters.Active.Load(); n != 2 {
			t.Errorf("%d active, want 2", n)
		}
		p.Drain(50 * time.Millisecond)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		if p.Counters.CutRequests.Load() != 2 || p.Counters.CutConns.Load() != 1 {
			t.Errorf("cut %d requests, %d connections", p.Counters.CutRequests.Load(), p.Counters.CutConns.Load())
		}
	})
}

func TestHTTP2Stop(t *testing.T) {
	p := startTLS(t, Settings{})
	client := h2Client(t, true)
	resp, err := client.Get("https://" + p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	silent := dialTLS(t, p, clientTLS("h2"))
	p.Stop(time.Hour)
	silent.wantClosed()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestHTTP2HeaderTimeout: half a header is not awaited for ever.
func TestHTTP2HeaderTimeout(t *testing.T) {
	p := start(t, Settings{ReceiveTimeout: 100 * time.Millisecond})
	c := dial(t, p)
	c.send(preface + frame(frameSettingsType, 0, 0, ""))
	c.send(frame(frameHeaders, flagEndStream, 1, rawGet))
	c.wantClosed()
}

// TestHTTP2Reloads: clients whose requests can be sent again notice nothing of many generations.
func TestHTTP2Reloads(t *testing.T) {
	ln := tcpListener(t)
	newServer := func() *workertest.Process {
		return startTLSWith(t, Settings{}, workertest.Options{Listeners: []net.Listener{ln}})
	}
	p := newServer()
	url := "https://" + p.Addr()
	client := h2Client(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var answers atomic.Int64
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Post(url+"/", "", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				if _ = resp.Body.Close(); err != nil || string(b) != "/body" {
					t.Errorf("%q, %v", b, err)
				}
				answers.Add(1)
			}
		})
	}
	for range 10 {
		next := newServer()
		so := answers.Load()
		waitFor(t, func() bool { return answers.Load() > so+50 })
		p.Drain(never)
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
		p = next
	}
	cancel()
	all.Wait()
}

func TestTLSOnPlain(t *testing.T) {
	p := start(t, Settings{ReceiveTimeout: never})
	for range 3 {
		c := dial(t, p)
		c.send(get("/"))
		c.want(200, "/")
		hello := make(chan error, 1)
		go func() { hello <- tls.Client(c.TCPConn, clientTLS()).Handshake() }()
		var record tls.RecordHeaderError
		if err := <-hello; !errors.As(err, &record) || string(record.RecordHeader[:]) != "HTTP/" {
			t.Errorf("the client says %v", err)
		}
	}
	c := dial(t, p)
	c.send("\x16\x03")
	c.wantLast(400, "")
}
