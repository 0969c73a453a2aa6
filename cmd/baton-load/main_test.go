package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"baton/scripts/load"
)

func TestRun(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // whole, before the answer begins: net/http would drop the rest
		w.Write(body)
	}))
	defer good.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer bad.Close()

	for _, tc := range []struct {
		name string
		args []string
		code int
		want string // in the output
	}{
		{"good", []string{"-d", "100ms", good.URL}, 0, "total"},
		{"bad", []string{"-d", "100ms", "-c", "new", bad.URL}, 1, "status: 502"},
		{"help", []string{"-h"}, 0, "pipelined"},
		{"no address", nil, 100, "want one address"},
		{"no such class", []string{"-c", "nobody", good.URL}, 100, `no class "nobody"`},
		{"no such range", []string{"-pause", "2s-1s", good.URL}, 100, `"2s-1s"`},
		{"no such flag", []string{"-x", good.URL}, 100, "-x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), tc.args, &out, &out); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("%q is not in\n%s", tc.want, &out)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-json", "-d", "50ms", "-c", "reader", "-pause", "0", server.URL}, &out,
		io.Discard); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var report load.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.Total.Requests == 0 {
		t.Errorf("%v in\n%s", err, &out)
	}
}
