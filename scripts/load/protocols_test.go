package load

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// started is a server for each of [Protocols] that ends at the end of the test.
func started(t *testing.T, class string) Config {
	t.Helper()
	switch class {
	case "talker":
		return Config{Target: serve(t, func(c *net.TCPConn) { go func() { io.Copy(c, c); c.Close() }() })}
	case "datagram":
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		go echoPackets(pc)
		return Config{Target: "udp:" + pc.LocalAddr().String()}
	case "websocket":
		server := httptest.NewServer(echoMessages(0))
		t.Cleanup(server.CloseClientConnections) // Close would wait for the hijacked ones
		return Config{Target: server.Listener.Addr().String()}
	}
	server := httptest.NewUnstartedServer(site(nil))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	cfg := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.ServerName = "example.com"
	return Config{Target: server.Listener.Addr().String(), TLS: cfg}
}

func echoPackets(pc net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		pc.WriteTo(buf[:n], from)
	}
}

// echoMessages says what it hears, and goodbye when it has heard n messages, if n is not 0.
func echoMessages(n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for i := 1; ; i++ {
			kind, text, err := ws.Read(r.Context())
			if err != nil || i == n && n > 0 {
				ws.Close(websocket.StatusServiceRestart, "goes")
				return
			}
			if ws.Write(r.Context(), kind, text) != nil {
				return
			}
		}
	})
}

func TestProtocolsAgainstGoodServers(t *testing.T) {
	t.Parallel()
	for _, class := range Protocols() {
		t.Run(class.Name, func(t *testing.T) {
			t.Parallel()
			cfg := started(t, class.Name)
			cfg.Classes, cfg.Duration, cfg.MaxIdle = []ClassCount{{class, 2}}, 500*time.Millisecond, 20*time.Millisecond
			report := Run(t.Context(), cfg)
			if report.Failed() != 0 || report.Total.Requests < 4 || report.Total.Connections != 2 {
				t.Errorf("want many requests of 2 clients on 2 connections, got\n%s", report)
			}
		})
	}
}

// TestProtocolsSeeSilence: all of them are asked by somebody who never answers.
func TestProtocolsSeeSilence(t *testing.T) {
	t.Parallel()
	for _, class := range Protocols() {
		t.Run(class.Name, func(t *testing.T) {
			t.Parallel()
			target := serve(t, func(c *net.TCPConn) { go silent(c) })
			cfg := Config{Target: target, Classes: []ClassCount{{class, 1}}, MaxPause: -1}
			if class.Name == "datagram" {
				cfg.Target = "udp:" + cfg.Target
				pc, err := net.ListenPacket("udp", cfg.Target[len("udp:"):]) // else the kernel says that nobody listens
				if err != nil {
					t.Fatal(err)
				}
				defer pc.Close()
			}
			shortly(&cfg)
			if report := runTurns(t, cfg, 1); report.Failed() != 1 || report.Total.Failures[Hang] != 1 {
				t.Errorf("want one hang, got\n%s", report)
			}
		})
	}
}

func TestGoodbye(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(echoMessages(3))
	defer server.CloseClientConnections()
	class, err := FindClass("websocket")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Target: server.Listener.Addr().String(), Classes: []ClassCount{{class, 1}}, MaxPause: -1, MaxIdle: 1}
	if report := runTurns(t, cfg, 3); report.Failed() != 1 || report.Total.Failures[Goodbye] != 1 {
		t.Errorf("want two answers and a goodbye, got\n%s", report)
	}
}
