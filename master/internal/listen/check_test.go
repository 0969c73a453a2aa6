package listen

import (
	"fmt"
	"strings"
	"testing"
)

// TestCheck is the table of what a configuration's listeners may not be. What they may be is in TestRelate.
func TestCheck(t *testing.T) {
	t.Parallel()
	many := make([]Listener, MaxListeners+1)
	for i := range many {
		many[i].Address = fmt.Sprintf("127.0.0.1:%d", 2000+i)
	}
	for _, tt := range []struct {
		all  []Listener
		want []string // index other words
	}{
		{all: []Listener{{Address: ":80"}, {Address: "127.0.0.1:80"}, {Address: "0.0.0.0:80"}, {Address: "[::1]:80"}}},
		{all: []Listener{{Address: ":53"}, {Address: ":53", Transport: "udp"}}},
		{all: []Listener{{Address: ":0", Name: "a"}, {Address: ":0", Name: "b"}}},
		{all: many[1:]},
		{many, []string{"512 -1 513 listeners, want at most 512"}},
		{[]Listener{{Address: ":0"}, {Address: ":0"}}, []string{"1 0 name :0 is used twice"}},
		{
			[]Listener{{Address: ":80"}, {Address: ":80", Name: "x", Transport: "tls"}},
			[]string{"1 0 address :80 is used twice"},
		},
		{
			[]Listener{
				{Address: "127.0.0.1:80", Name: "x"}, {Address: "/a"}, {Address: "localhost:80"}, {Address: "unix:./a"},
			},
			[]string{
				"2 0 address localhost:80 is 127.0.0.1:80, the same as that of listener x", "3 1 unix:/a, the same",
			},
		},
		{[]Listener{{Address: "8080"}, {Address: "8080"}}, []string{"0 -1 missing port", "1 -1 missing port"}},
		{[]Listener{{Address: "unix:/" + strings.Repeat("a/", 4000)}}, []string{"0 -1 an address of 8006 bytes"}},
		{[]Listener{{Address: ":80", Name: strings.Repeat("a", 2049)}}, []string{"0 -1 a name of 2049 bytes"}},
	} {
		errs := Check(tt.all, "/")
		if len(errs) != len(tt.want) {
			t.Errorf("%.200v: %v, want %q", tt.all, errs, tt.want)
			continue
		}
		for i, e := range errs {
			var index, other int
			_, _ = fmt.Sscan(tt.want[i], &index, &other)
			_, words, _ := strings.Cut(tt.want[i], " ")
			_, words, _ = strings.Cut(words, " ")
			if e.Index != index || e.Other != other || !strings.Contains(e.Error(), words) {
				t.Errorf("%d and %d, %v; want %q", e.Index, e.Other, e, tt.want[i])
			}
		}
	}
}
