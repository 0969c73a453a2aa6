package plan

import (
	"cmp"
	"slices"
)

// mostTakers is how many workers one that drains gives its connections to. With more of them each has others.
const mostTakers = 32

// Takers says which workers take the connections of p when it drains, in the order in which they are to have the next
// one. It begins at another slot for each: one connection of each of four workers is one for each of four others. A
// worker that takes the place of p takes all that p has, so that its share is as large as p's was.
func (v View) Takers(p Worker) (pids []int) {
	var all []Worker
	for _, q := range v.Workers {
		if !q.Taker || q.PID == p.PID || q.Generation != v.Generation || q.State != Serving || q.Slot >= v.Slots {
			continue
		}
		if q.Replaces == p.PID {
			return []int{q.PID}
		}
		all = append(all, q)
	}
	replaced := func(q Worker) bool { // it is about to drain itself
		return slices.ContainsFunc(all, func(r Worker) bool { return r.Replaces == q.PID })
	}
	slices.SortFunc(all, func(a, b Worker) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.PID, b.PID))
	})
	for i := range all {
		if q := all[(p.Slot+i)%len(all)]; !replaced(q) && len(pids) < mostTakers {
			pids = append(pids, q.PID)
		}
	}
	return pids
}

// Share is a worker that gives one part of its connections, of so many, to others.
type Share struct {
	PID      int
	Takers   []int
	Part, Of int
}

// Shares says who gives connections to whom when there are more workers than before: once all of them serve, those that
// did so before to the new ones, which are the PIDs in to.
func (v View) Shares() (shares []Share, to []int) {
	var from []Worker
	grown := v
	grown.Workers = nil
	for _, p := range v.Workers {
		switch {
		case p.Generation != v.Generation || p.State != Serving || p.Slot >= v.Slots:
		case p.Grown:
			grown.Workers = append(grown.Workers, p)
			to = append(to, p.PID)
		default:
			from = append(from, p)
		}
	}
	if len(from)+len(to) < v.Slots || len(to) == 0 {
		return nil, nil
	}
	for _, p := range from {
		if pids := grown.Takers(p); len(pids) > 0 {
			shares = append(shares, Share{p.PID, pids, len(to), len(from) + len(to)})
		}
	}
	return shares, to
}
