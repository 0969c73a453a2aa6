package main

import (
	"fmt"
	"slices"
	"time"
)

// pending are the keys that the design has and this program does not obey yet. To set one of them is an error, unless
// it is set to what happens anyway. Whoever implements one takes it out here.
var pending = map[string][]string{ // key → the values that are no error, besides "", 0, "0s" and false
	"hang_timeout": nil,
}

// notSupportedYet finds the keys that would be silently ignored.
func notSupportedYet(x *index) mistakes {
	var ms mistakes
	for _, e := range x.entries {
		accepted, ok := pending[e.field]
		if ok && !slices.Contains(accepted, e.text) && !isOff(e.text) {
			ms = append(ms, x.wrong(e.path, fmt.Sprintf("%s = %s is not supported yet", e.field, x.doc[e.value.from:e.value.to]), ""))
		}
	}
	return ms
}

func isOff(text string) bool {
	if d, err := time.ParseDuration(text); err == nil {
		return d == 0
	}
	return text == "" || text == "false"
}
