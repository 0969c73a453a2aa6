package promises_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// awaitLine waits for a line of the log that has all of the words.
func awaitLine(tb testing.TB, b *mastertest.Baton, words ...string) {
	tb.Helper()
	b.AwaitLog(fmt.Sprint("a line with ", words), 0, func(text string) bool {
		for line := range strings.Lines(text) {
			has := true
			for _, word := range words {
				has = has && strings.Contains(line, word)
			}
			if has {
				return true
			}
		}
		return false
	})
}

// TestLogSaysWho: who has asked for a reload and for a stop.
func TestLogSaysWho(t *testing.T) {
	t.Parallel()
	command := fmt.Sprintf("client_uid=%d", unix.Geteuid())
	for by, stop := range map[string]func(b *mastertest.Baton){
		"TERM": func(b *mastertest.Baton) { b.Signal(unix.SIGTERM) },
		"INT":  func(b *mastertest.Baton) { b.Signal(unix.SIGINT) },
		"QUIT": func(b *mastertest.Baton) { b.Signal(unix.SIGQUIT) },
		`"baton stop"`: func(b *mastertest.Baton) {
			if r := b.CLI("stop"); r.Code != 0 {
				b.Signal(unix.SIGTERM)
			}
		},
	} {
		t.Run(strings.Trim(by, `"`), func(t *testing.T) {
			t.Parallel()
			b := start(t, unwatchedSite(t))
			b.Signal(unix.SIGHUP)
			awaitLine(t, b, "reload requested", "by=HUP")
			b.AwaitGeneration(2)
			b.Reload()
			awaitLine(t, b, "reload requested", `by="baton reload"`, "client_pid=", command)
			stop(b)
			b.Wait()
			if by == `"baton stop"` {
				awaitLine(t, b, "stopping", "by="+by, "client_pid=", command)
			}
			awaitLine(t, b, "stopping", "by="+by)
		})
	}
}

// TestLogLevel: a reload changes what is written.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	p := newPair(t, "log")
	address := mastertest.FreePort(t)
	s := unwatchedSite(t).withListen(address, `transport = "tls"`, `tls = { cert = "cert.pem", key = "key.pem" }`)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Files: map[string]string{"cert.pem": p.cert, "key.pem": p.key},
	})
	shakeHands := func() net.Addr {
		t.Helper()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := tls.Client(c, &tls.Config{ServerName: "127.0.0.1"}).Handshake(); err == nil {
			t.Error("a certificate that nobody has signed was accepted")
		}
		return c.LocalAddr()
	}
	unsaid := shakeHands()
	b.WriteConfig(s.with(`log_level = "debug"`).String())
	b.Reload("--wait")
	awaitLine(t, b, "level=DEBUG", shakeHands().String(), "tls: bad certificate")
	if strings.Contains(b.Log(), unsaid.String()) {
		t.Error("a line for debugging that nobody has asked for")
	}

	b.WriteConfig(s.with(`log_level = "error"`).String())
	b.Reload("--wait")
	before := len(b.Log())
	b.Reload("--wait")
	b.Stop()
	if said := b.Log()[before:]; said != "" {
		t.Errorf("nothing was wrong, and the log says %s", said)
	}
}
