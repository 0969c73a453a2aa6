package master

import (
	"fmt"
	"slices"
	"testing"
)

// TestWarningsAreBounded: what is noticed again and again is one warning, with the last words.
func TestWarningsAreBounded(t *testing.T) {
	t.Parallel()
	var w warnings
	if !w.set("a", "one") || w.set("a", "one") {
		t.Error("new is what was not said before")
	}
	for i := range 1000 {
		w.set("b", fmt.Sprint(i))
		w.set("c", "three")
	}
	if got := w.list(); !slices.Equal(got, []string{"one", "999", "three"}) {
		t.Errorf("%q", got)
	}
	if !w.drop("b") || w.drop("b") {
		t.Error("it was there once")
	}
	if got := w.list(); !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("%q", got)
	}
}
