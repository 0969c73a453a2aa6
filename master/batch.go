package master

import "baton/worker/wire"

// Bounds of one [wire.Sockets] message, well below those of the wire.
const (
	batchBytes = 16 << 10
	batchFDs   = 100
)

// socketBatch is a message, and the descriptors that go with it.
type socketBatch struct {
	wire.Sockets
	fds  []int
	size int
}

// batch makes messages of what a worker is to get: none of them is too large, unless a single entry is.
func batch(all []sock, paths []wire.Path) []socketBatch {
	var done []socketBatch
	room := func(v any) *socketBatch {
		b, _ := wire.Marshal(v)
		if n := len(done); n == 0 || done[n-1].size+len(b) > batchBytes || len(done[n-1].fds) == batchFDs {
			done = append(done, socketBatch{})
		}
		last := &done[len(done)-1]
		last.size += len(b) + 1
		return last
	}
	for _, s := range all {
		l := s.wire()
		b := room(l)
		b.Listeners, b.fds = append(b.Listeners, l), append(b.fds, s.fd)
	}
	for _, p := range paths {
		b := room(p)
		b.Paths = append(b.Paths, p)
	}
	for i := range done {
		done[i].More = i < len(done)-1
	}
	return done
}

// give notes that a worker has a socket.
func (p *proc) give(key string) {
	if p.given == nil {
		p.given = map[string]bool{}
	}
	p.given[key] = true
}
