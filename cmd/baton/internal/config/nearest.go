package config

import "fmt"

// nearest returns the known word that was probably meant, or "".
func nearest(typed string, known []string) string {
	best, least := "", 1+(len(typed)+2)/3
	for _, k := range known {
		if max(len(typed)-len(k), len(k)-len(typed)) >= least {
			continue // nor is a table made for a long word
		}
		if d := distance(typed, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// DidYouMean returns a hint with the nearest of known in it, or "".
func DidYouMean(typed string, known []string) string {
	if k := nearest(typed, known); k != "" {
		return fmt.Sprintf("did you mean %s?", k)
	}
	return ""
}

// distance counts the insertions, deletions, replacements and swaps of neighbors that turn a into b.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
