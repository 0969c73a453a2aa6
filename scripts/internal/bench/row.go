package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
)

// row is one line of a table: the rounds of baton and of whom it is measured against.
type row struct {
	what, other   string
	unit          string
	baton, theirs []float64
	moreIsBetter  bool
	note          string
}

func printRows(rows []row) {
	w := table("what", "baton", "(least … most)", "against", "", "(least … most)", "ratio", "note")
	for _, r := range rows {
		a, b := median(r.baton), median(r.theirs)
		verdict := "less is better"
		if r.moreIsBetter {
			verdict = "more is better"
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s %s\t%s\t%.2f\t%s%s\n", r.what,
			number(a), r.unit, span(r.baton), r.other, number(b), r.unit, span(r.theirs), a/b, verdict, r.note)
	}
	w.Flush()
}

// table begins a table.
func table(columns ...string) *tabwriter.Writer {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for i, c := range columns {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
	return w
}

// number writes a number with as many digits as mean something.
func number(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// span is from the least to the most.
func span(v []float64) string {
	return fmt.Sprintf("(%s … %s)", number(slices.Min(v)), number(slices.Max(v)))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
