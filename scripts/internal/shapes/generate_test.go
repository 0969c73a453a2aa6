package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// both is a machine on which everything can be done.
var both = machine{root: true, six: true}

// TestSeedGivesTheSameSteps: a seed is a sequence, its beginning does not depend on its length, and another leg or
// seed is another sequence.
func TestSeedGivesTheSameSteps(t *testing.T) {
	a, b := generate(7, 3, 200, both), generate(7, 3, 200, both)
	if !reflect.DeepEqual(a, b) {
		t.Error("two sequences of one seed differ")
	}
	if !reflect.DeepEqual(a[:50], generate(7, 3, 50, both)) {
		t.Error("a shorter sequence is not the beginning of the longer one")
	}
	for _, other := range [][]step{generate(8, 3, 200, both), generate(7, 4, 200, both)} {
		if format(a) == format(other) {
			t.Error("another seed or leg gives the same sequence")
		}
	}
}

// TestEverythingIsWalked: within some legs each deed, program and value comes up, and every kind of listener.
func TestEverythingIsWalked(t *testing.T) {
	seen := map[string]bool{}
	for leg := range 60 {
		for _, p := range generate(1, leg, 50, both) {
			seen[string(p.Do)+p.Who] = true
			seen["program "+p.What] = true
			seen[string(p.Do)+" "+p.How+p.Save] = true
			seen[string(p.Do)+" "+p.Host+" "+p.What] = true
			for key, v := range p.Set {
				seen[key+"="+plain(v)] = true
			}
			for _, l := range p.Put {
				if l.listener != nil {
					seen[l.Transport+" "+l.Process+" "+l.Host] = true
				}
			}
		}
	}
	var want []string
	deeds := []deed{edit, reload, resize, more, fewer, program, restart, remove, occupy, release, spoil, rotate, rest}
	for _, d := range deeds {
		want = append(want, string(d))
	}
	for _, who := range []string{"worker", "master", "supervisor"} {
		want = append(want, string(kill)+who, string(pause)+who)
	}
	for _, v := range programs() {
		want = append(want, "program "+v.name)
	}
	for _, v := range values() {
		for _, n := range v.values {
			want = append(want, v.key+"="+plain(n))
		}
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "[::1]", "localhost", "0.0.0.0", "[::]", "", "unix"} {
		want = append(want, "tcp http "+host, "tls http "+host, "tcp echo "+host, "tcp websocket-echo "+host)
	}
	want = append(want, "restart kill now", "restart term twice", "edit watchlink", "edit hupslow", "edit command",
		"occupy unix tcp", "occupy [::1] udp", "occupy 127.0.0.1 tcp")
	for _, w := range want {
		if !seen[w] {
			t.Errorf("never: %s", w)
		}
	}
}

func TestNothingThatTheMachineHasNot(t *testing.T) {
	for leg := range 30 {
		for _, p := range generate(1, leg, 50, machine{}) {
			if p.Set["user"] != 0 {
				t.Fatal("a walk that is not root's sets a user")
			}
			for _, l := range p.Put {
				if l.listener != nil && (strings.HasPrefix(l.Host, "[") || l.Host == "") {
					t.Fatalf("a walk without IPv6 listens on %q", l.Host)
				}
			}
		}
	}
}

// TestStepsAreReadAsTheyArePrinted: also with comments and empty lines between them.
func TestStepsAreReadAsTheyArePrinted(t *testing.T) {
	steps := generate(5, 0, 300, both)
	text := "# found\n\n" + strings.ReplaceAll(format(steps), "\n", "\n  ")
	again, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if format(again) != format(steps) {
		t.Error("what is read is not what was printed")
	}
	a, b := newState(), newState()
	for i := range steps {
		a, b = a.after(steps[i]), b.after(again[i])
	}
	real := ports{"1", "2", "3", "4"}
	if a.file.toml(real) != b.file.toml(real) || a.program != b.program {
		t.Error("what is read leads to another state")
	}
	for _, bad := range []string{"x", `{"do":1}`, `{"dont":"x"}`} {
		if _, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%s is taken for a step", bad)
		}
	}
}

func TestGroups(t *testing.T) {
	var all []step
	for _, with := range []bool{false, true, true, false, true} {
		all = append(all, step{With: with})
	}
	var sizes []int
	for _, g := range groups(all) {
		sizes = append(sizes, len(g))
	}
	if !slices.Equal(sizes, []int{1, 3, 1}) {
		t.Errorf("groups of %v", sizes)
	}
}

// TestStepsStandAlone: a step means the same whatever was left out before it.
func TestStepsStandAlone(t *testing.T) {
	echo := &listener{Host: "127.0.0.1", Port: 1, Transport: "tcp", Process: "echo"}
	put := step{Do: edit, Put: map[int]*place{2: {echo}}}
	gone := step{Do: edit, Put: map[int]*place{2: {}}, Set: map[string]int{"workers": 4}}
	s := newState().after(put)
	if s.file.Listen[2] == nil || newState().file.Listen[2] != nil {
		t.Error("a listener is not put, or is put into another state as well")
	}
	for _, s := range []state{s.after(gone), newState().after(gone)} {
		if s.file.Listen[2] != nil || s.file.get("workers") != 4 || s.file.Listen[0] == nil {
			t.Errorf("%+v", s.file)
		}
	}
}

// TestOneListenerStays: also in a walk of which the step that added another one was left out.
func TestOneListenerStays(t *testing.T) {
	t.Parallel()
	s := newState()
	first := *s.file.Listen[0]
	s = s.after(step{Do: edit, Put: map[int]*place{0: {}, 1: {}}})
	if l := s.file.Listen[0]; l == nil || *l != first {
		t.Errorf("%+v is left, want %+v", l, first)
	}
	s = s.after(step{Do: edit, Put: map[int]*place{0: {}, 1: {&first}}})
	if s.file.Listen[0] != nil || s.file.Listen[1] == nil {
		t.Errorf("%+v, want the second one only", s.file.Listen)
	}
}
