package master

import (
	"context"
	"os"

	"baton/master/internal/message"
)

// compare asks for a reload if what is on disk is not what runs. The supervisor wants to know when it may have lost a HUP.
// Changed files are asked for by the watch, if there is one.
func (m *master) compare(c message.Compare) {
	if !m.enter(eventRequest) {
		return
	}
	cfg, path := m.cfg, m.args[0]
	go func() {
		if otherBinary(path) || (c.Whole || len(cfg.Watch) == 0) && m.otherConfig(cfg) {
			_ = m.supervisor.Post(message.ReloadRequest{Source: message.SourceCompare})
		}
		_ = m.supervisor.Post(message.Compared{})
	}()
}

// otherBinary reports whether path is another file than the one that is executed. A file that is not there is none.
func otherBinary(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	ours, err := os.Stat("/proc/self/exe")
	return err == nil && !os.SameFile(there, ours)
}

// otherConfig reports whether a reload would not load cfg. One that would fail is one that somebody is to hear of.
func (m *master) otherConfig(cfg Config) bool {
	now, err := m.loadConfig(context.Background())
	if now.Control != "" {
		now.Control = m.path(now.Control) // as in openControl
	}
	return err != nil || !sameJSON(now, cfg)
}
