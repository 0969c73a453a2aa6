package promises_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// h2Client is net/http's, which sends a request again if HTTP/2 says that it may and if it can. With a nil pair it
// speaks without TLS.
func h2Client(tb testing.TB, p *pair) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	if p != nil {
		tr.TLSClientConfig = p.client()
		tr.Protocols.SetHTTP2(true)
	} else {
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: mastertest.Timeout}
}

// stream is a body that cannot be sent again.
type stream struct{ io.Reader }

// ownFault is how net/http's client fails when it reads of the end of a connection between choosing it for a request
// and sending that: it has closed the body by then. No server can help it; whatever the server could help reads
// otherwise.
const ownFault = "cannot rewind body after connection loss"

// TestHTTP2ReloadsLoseNothing is P1 over HTTP/2, as far as the protocol lets a client keep it: requests that the client
// can send again never fail. Of the others only those that fail by the client's own fault do, and they are counted.
func TestHTTP2ReloadsLoseNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	p := newPair(t, "one")
	b, tlsAddress := startTLS(t, unwatchedSite(t), p)
	plainAddress := b.Status().Listeners[0].Address
	clients := []struct {
		name, url string
		client    *http.Client
		again     bool
		count     counts
	}{
		{name: "tls", url: "https://" + tlsAddress, client: h2Client(t, &p), again: true},
		{name: "h2c", url: "http://" + plainAddress, client: h2Client(t, nil), again: true},
		{name: "tls, bodies that cannot be sent again", url: "https://" + tlsAddress, client: h2Client(t, &p)},
		{name: "h2c, bodies that cannot be sent again", url: "http://" + plainAddress, client: h2Client(t, nil)},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range clients {
		c := &clients[i]
		for range 6 {
			all.Go(func() {
				for ctx.Err() == nil {
					err := postH2(c.client, c.url, c.again)
					c.count.add(err)
					if err != nil && (c.again || !strings.Contains(err.Error(), ownFault)) {
						t.Errorf("%s: %v", c.name, err)
					}
				}
			})
		}
	}
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool {
		return clients[0].count.requests.Load() > 50 && clients[1].count.requests.Load() > 50
	})
	pace(t, 10**repeat, 300*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	cancel()
	all.Wait()
	wantNoCut(t, b)
	for i := range clients {
		c := &clients[i]
		t.Logf("%s: %d requests, %d failed", c.name, c.count.requests.Load(), c.count.failed.Load())
	}
}

type counts struct{ requests, failed atomic.Int64 }

func (c *counts) add(err error) {
	c.requests.Add(1)
	if err != nil {
		c.failed.Add(1)
	}
}

// postH2 sends a request and checks its answer.
func postH2(client *http.Client, url string, again bool) error {
	body := strings.Repeat("body", 100)
	var r io.Reader = strings.NewReader(body)
	if !again {
		r = stream{r}
	}
	resp, err := client.Post(url+"/echo", "text/plain", r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.ProtoMajor != 2:
		return errors.New("answered in " + resp.Proto)
	case string(got) != body:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// TestHTTP2LongStreams: a stream that is open when the reload comes is finished by the old generation, and neither
// holds up the other clients of that generation.
func TestHTTP2LongStreams(t *testing.T) {
	t.Parallel()
	p := newPair(t, "one")
	b, address := startTLS(t, unwatchedSite(t), p)
	client := h2Client(t, &p)
	answers := make(chan error, 4)
	for range cap(answers) {
		go func() {
			resp, err := client.Get("https://" + address + "/slow2")
			if err == nil {
				var text []byte
				text, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil && string(text) != "slow" {
					t.Errorf("got %q", text)
				}
			}
			answers <- err
		}()
	}
	b.AwaitStatus("four streams",
		func(s mastertest.Status) bool { return s.Workers[0].Active+s.Workers[1].Active == 4 })
	b.Reload("--wait")
	for range cap(answers) {
		select {
		case err := <-answers:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(mastertest.Timeout):
			t.Fatal("a stream was not finished")
		}
	}
	wantNoCut(t, b)
}
