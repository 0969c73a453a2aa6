package main

import (
	"slices"
)

// shrinker finds a short sequence that still fails.
type shrinker struct {
	fails func([]step) bool // one try
	tries int               // how many there may be
	again int               // how often a sequence is tried before it counts as one that does not fail
}

// shrink leaves out whatever may be left out: halves first, then smaller and smaller parts, then single steps, until no
// single one can go, or the tries are used up.
func (s *shrinker) shrink(steps []step) []step {
	for size := max(1, len(steps)/2); ; size = max(1, size/2) {
		shorter := s.pass(steps, size)
		if size == 1 && len(shorter) == len(steps) || s.tries <= 0 {
			return shorter
		}
		steps = shorter
	}
}

// pass tries to leave out each part of the size, the last one first: what came after the cause goes at once.
func (s *shrinker) pass(steps []step, size int) []step {
	for end := len(steps); end > 0 && s.tries > 0; end -= size {
		begin := max(0, end-size)
		if end > len(steps) || len(steps) == end-begin {
			continue
		}
		if rest := slices.Concat(steps[:begin], steps[end:]); s.stillFails(rest) {
			steps = rest
		}
	}
	return steps
}

// stillFails tries several times: what fails by chance must not look as if it did not.
func (s *shrinker) stillFails(steps []step) bool {
	for range s.again {
		if s.tries <= 0 {
			return false
		}
		s.tries--
		if s.fails(steps) {
			return true
		}
	}
	return false
}
