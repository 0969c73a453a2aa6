package supervisor

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"baton/master/internal/control"
	"baton/master/internal/message"
	"baton/master/internal/status"
)

// maxResults is how many results are kept for those who ask late.
const maxResults = 64

// result is how one attempt ended. It answers all requests up to Seen that no earlier one has answered.
type result struct {
	Seen       int64  `json:"seen"`
	OK         bool   `json:"ok"`
	Error      string `json:"error,omitempty"`
	Generation int    `json:"generation"` // that serves since
	At         int64  `json:"at"`         // Unix milliseconds

	// Drained: no worker of an older generation is left, and this is what was cut of them since.
	Drained        bool  `json:"drained,omitempty"`
	CutRequests    int64 `json:"cut_requests,omitempty"`
	CutConnections int64 `json:"cut_connections,omitempty"`
}

// report is how the attempt ended, for people.
func (r result) report() status.Reload {
	return status.Reload{ID: r.Seen, OK: r.OK, Error: r.Error, At: time.UnixMilli(r.At)}
}

// lastReload is how the last one ended.
func (sv *supervisor) lastReload() status.Reload {
	if n := len(sv.results); n > 0 {
		return sv.results[n-1].report()
	}
	return status.Reload{OK: true}
}

// maxReason bounds what is kept of a reason.
const maxReason = 4 << 10

func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + " …"
}

// publish stores a result for those who ask, now or later.
func (sv *supervisor) publish(r result) {
	r.Generation = sv.generation
	r.Error = shorten(r.Error)
	r.At = time.Now().UnixMilli()
	sv.served = max(sv.served, r.Seen)
	sv.results = append(sv.results, r)
	if len(sv.results) > maxResults {
		sv.forgotten = sv.results[0].Seen
		sv.results = sv.results[1:]
	}
}

// resultOf is how request id ended: by the first attempt that had seen it.
func (sv *supervisor) resultOf(id int64) (result, bool) {
	for _, r := range sv.results {
		if r.Seen >= id {
			return r, true
		}
	}
	return result{}, false
}

// awaitReload answers when reload id has ended, and with drained when no older worker is left.
func (sv *supervisor) awaitReload(id int64, drained bool, asked time.Time) look {
	switch {
	case id < 1 || id > sv.count:
		return refused(&control.Error{Code: http.StatusNotFound, Text: fmt.Sprintf("reload: there was no reload %d", id)})
	case id <= sv.forgotten:
		return refused(&control.Error{Code: http.StatusGone, Text: fmt.Sprintf("reload: how %d ended has been forgotten", id)})
	}
	return func(now time.Time) (a answer, done bool, until time.Time) {
		r, ended := sv.resultOf(id)
		switch {
		case ended && (!drained || !r.OK || r.Drained):
			return answer{value: r.answer(id, drained)}, true, until
		case sv.stopping:
			return answer{err: errStopping()}, true, until
		case ended && sv.current != nil && !control.Look(sv.current.pid).Stopped:
			return answer{}, false, until // it drains, which may take long
		}
		until, err := sv.patience(asked, now)
		return answer{err: err}, err != nil, until
	}
}

func (r result) answer(id int64, drained bool) status.ReloadAnswer {
	a := status.ReloadAnswer{ID: id, OK: r.OK, Error: r.Error, Generation: r.Generation}
	if drained && r.OK {
		a.Drained, a.CutRequests, a.CutConnections = true, r.CutRequests, r.CutConnections
	}
	return a
}

// onCut counts what was cut of a worker for every reload that still waits for it. There is one for each generation, so that
// nobody's count begins anew with somebody else's reload.
func (sv *supervisor) onWorkerCut(m message.Cut) {
	for i := range sv.results {
		if r := &sv.results[i]; r.OK && !r.Drained && m.Generation < r.Generation {
			r.CutRequests += m.Requests
			r.CutConnections += m.Connections
		}
	}
}

// onOldest: no worker is older than that.
func (sv *supervisor) onOldest(m message.Oldest) {
	for i := range sv.results {
		if r := &sv.results[i]; r.OK && r.Generation <= m.Generation {
			r.Drained = true
		}
	}
}
