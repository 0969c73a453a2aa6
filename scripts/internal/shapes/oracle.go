package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"baton/master"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// settle waits until nothing is going on but draining. Then the status must say what it has to, and what it says must
// be so.
func (w *walk) settle() {
	if w.failed() {
		return
	}
	err := w.until(patience, func() error {
		st, err := w.status()
		if err != nil {
			return err
		}
		return errors.Join(w.serving(st), w.listed(st), w.living(st))
	})
	if w.gone() {
		w.findf("end", "exit code %d, and nobody has asked for it", w.baton.Code())
	} else if err != nil {
		w.findf("status", "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	w.book.settle(w.promised(), w.force.program)
}

// status asks until there is an answer: there is none while baton starts. An answer is always a status, with or without
// a master.
func (w *walk) status() (st master.Status, err error) {
	err = w.until(5*time.Second, func() error {
		st, err = w.baton.Status()
		if no := (*mastertest.NoStatusError)(nil); errors.As(err, &no) {
			w.findf("status", "%v", err)
		}
		return err
	})
	return st, err
}

// serving: each slot has a worker of this generation that serves.
func (w *walk) serving(st master.Status) error {
	if w.want < 0 {
		w.want = st.WorkersWanted
	}
	slots := map[int]bool{}
	for _, worker := range st.Workers {
		if worker.State == "serving" && worker.Generation == st.Generation {
			slots[worker.Slot] = true
		}
	}
	if st.State != "serving" || st.MasterPID == 0 || st.WorkersWanted != w.want || len(slots) != w.want {
		return fmt.Errorf("%s, master %d, %d slots serve in generation %d, %d are wanted, want %d",
			st.State, st.MasterPID, len(slots), st.Generation, st.WorkersWanted, w.want)
	}
	return nil
}

// listed: the status has the listeners that are in force.
func (w *walk) listed(st master.Status) error {
	has := map[string]string{}
	for _, l := range st.Listeners {
		has[l.Name] = l.Address
	}
	n := 0
	for i, l := range w.force.served().Listen {
		if l == nil {
			continue
		}
		n++
		if a, ok := has[name(i)]; !ok || l.Host != "unix" && !strings.HasSuffix(a, ":"+w.real[l.Port]) {
			return fmt.Errorf("listener %s at %s is listed as %q", name(i), l.address(w.real), a)
		}
	}
	if len(has) != n {
		return fmt.Errorf("%d listeners are listed, want %d", len(has), n)
	}
	return nil
}

// living: each worker that is listed lives and descends from the supervisor, and so does nobody else.
func (w *walk) living(st master.Status) error {
	tree := map[int]bool{}
	for _, pid := range w.baton.Tree() {
		tree[pid] = true
	}
	if st.SupervisorPID != w.baton.PID() || !tree[st.MasterPID] {
		return fmt.Errorf("supervisor %d, want %d; master %d", st.SupervisorPID, w.baton.PID(), st.MasterPID)
	}
	for _, worker := range st.Workers {
		if !tree[worker.PID] {
			return fmt.Errorf("worker %d is no process of the tree", worker.PID)
		}
	}
	if len(tree) != 1+len(st.Workers) {
		return fmt.Errorf("%d processes below the supervisor, %d workers", len(tree), len(st.Workers))
	}
	return nil
}

// check looks at what clients see, when all has settled.
func (w *walk) check() {
	if w.failed() {
		return
	}
	st, ok := w.said()
	if !ok {
		return
	}
	if st.Crashes > w.kills {
		w.findf("crash", "%d workers have ended unasked, %d of them by us", st.Crashes, w.kills)
	}
	if len(st.Warnings) > 30 {
		w.findf("warnings", "%d: %.300q", len(st.Warnings), st.Warnings)
	}
	w.even(st)
	w.complaints()
	for _, t := range w.promised().targets() {
		if err := w.until(time.Second, func() error { return w.probe(t) }); err != nil {
			w.findf("probe", "%v: %v", t, err)
		}
	}
	w.refusals()
	now := w.promised().targets()
	w.clients.retire(now)
	w.clients.follow(now)
	w.clients.warm(3 * time.Second)
}

// said is what `baton status --json` says.
func (w *walk) said() (st master.Status, ok bool) {
	code, out := w.command(0, "status", "--json")
	if err := json.Unmarshal([]byte(out), &st); code != 0 || err != nil {
		w.findf("status", "baton status --json: exit code %d: %s", code, out)
		return st, false
	}
	return st, true
}

// refusals: where no listener is, nobody answers.
func (w *walk) refusals() {
	for _, t := range w.guest.leaves(w.force.served().closed(len(w.real))) {
		err := w.until(5*time.Second, func() error {
			c, err := net.DialTimeout("tcp", t.dial("", w.real), time.Second)
			if err == nil {
				c.Close()
				return errors.New("somebody listens")
			}
			return nil
		})
		if err != nil {
			w.findf("closed", "%v: %v", t, err)
		}
	}
}

// even notes when one worker has much more than its share; that is no finding.
func (w *walk) even(st master.Status) {
	var sum, most int64
	n := 0
	for _, worker := range st.Workers {
		if worker.State == "serving" {
			n, sum, most = n+1, sum+worker.Connections, max(most, worker.Connections)
		}
	}
	if n > 1 && float64(most) > 1.5*float64(sum)/float64(n)+8 {
		w.soft = append(w.soft, fmt.Sprintf("of %d connections on %d workers one has %d", sum, n, most))
	}
}

// probe asks a target once, on a connection of its own. Who serves it must be who the status says.
func (w *walk) probe(t target) error {
	network, address, found := strings.Cut(t.dial(w.baton.Dir, w.real), ":")
	if !found || network != "unix" && network != "udp" {
		network, address = "tcp", t.dial("", w.real)
	}
	c, err := net.DialTimeout(network, address, bound)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(bound))
	if t.Transport == "tls" {
		c = tls.Client(c, w.clients.trust)
	}
	switch t.Process {
	case "echo":
		return probeEcho(c)
	case "websocket-echo":
		return probeWebSocket(c)
	default:
		return w.probeHTTP(c)
	}
}

func probeEcho(c net.Conn) error {
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		return fmt.Errorf("hello is answered with %q, %w", b, err)
	}
	return nil
}

func probeWebSocket(c net.Conn) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("%s instead of a WebSocket", resp.Status)
	}
	return nil
}

// probeHTTP asks who serves.
func (w *walk) probeHTTP(c net.Conn) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var who struct {
		Generation int    `json:"generation"`
		PID        int    `json:"pid"`
		Version    string `json:"version"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&who); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if who.Version != w.force.program {
		return fmt.Errorf("version %s answers, want %s", who.Version, w.force.program)
	}
	st, err := w.status()
	if err != nil {
		return err
	}
	for _, worker := range st.Workers {
		current := foreign(w.force.program) || who.Generation == st.Generation
		if worker.PID == who.PID && worker.State == "serving" && current {
			return nil
		}
	}
	return fmt.Errorf("%+v answers, which is no serving worker of generation %d", who, st.Generation)
}

// tally adds up what clients met.
func (w *walk) tally(r *load.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sums.add(r)
}
