package main

import (
	"slices"
	"testing"
)

// numbered are n steps that can be told apart.
func numbered(n int) (steps []step) {
	for i := range n {
		steps = append(steps, step{Do: resize, N: i})
	}
	return steps
}

func has(steps []step, numbers ...int) bool {
	for _, n := range numbers {
		if !slices.ContainsFunc(steps, func(p step) bool { return p.N == n }) {
			return false
		}
	}
	return true
}

func TestShrinkFindsWhatIsNeeded(t *testing.T) {
	for _, need := range [][]int{{0}, {24}, {3, 4}, {0, 24}, {1, 7, 8, 19}} {
		s := &shrinker{tries: 500, again: 1, fails: func(steps []step) bool { return has(steps, need...) }}
		short := s.shrink(numbered(25))
		if len(short) != len(need) || !has(short, need...) {
			t.Errorf("want %v, got %v", need, short)
		}
	}
}

// TestShrinkKeepsTheOrder: a failure that needs one step before another.
func TestShrinkKeepsTheOrder(t *testing.T) {
	s := &shrinker{tries: 500, again: 1, fails: func(steps []step) bool {
		i := slices.IndexFunc(steps, func(p step) bool { return p.N == 5 })
		j := slices.IndexFunc(steps, func(p step) bool { return p.N == 17 })
		return i >= 0 && j > i
	}}
	if short := s.shrink(numbered(25)); len(short) != 2 || short[0].N != 5 || short[1].N != 17 {
		t.Errorf("got %v", short)
	}
}

// TestShrinkTriesFlakyFailuresAgain: what fails two times of three only is shrunk all the same.
func TestShrinkTriesFlakyFailuresAgain(t *testing.T) {
	calls := 0
	s := &shrinker{tries: 1000, again: 3, fails: func(steps []step) bool {
		calls++
		return has(steps, 9) && calls%3 != 0
	}}
	if short := s.shrink(numbered(25)); len(short) != 1 {
		t.Errorf("got %v", short)
	}
}

func TestShrinkIsBounded(t *testing.T) {
	calls := 0
	s := &shrinker{tries: 7, again: 3, fails: func([]step) bool { calls++; return false }}
	if short := s.shrink(numbered(25)); len(short) != 25 || calls != 7 {
		t.Errorf("%d steps after %d tries", len(short), calls)
	}
}
