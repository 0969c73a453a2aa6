package message_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"baton/master/internal/message"
	"baton/worker/wire"
	"baton/worker/wire/wiretest"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	wiretest.Check(t, []wire.Message{
		&message.Hello{}, &message.Welcome{}, &message.Refused{}, &message.Item{}, &message.End{}, &message.Put{},
		&message.Drop{},
		&message.Preparing{}, &message.Commit{}, &message.Committed{}, &message.Serving{}, &message.Superseded{},
		&message.Leaving{},
		&message.TakeoverComplete{}, &message.Fail{}, &message.ReloadRequest{}, &message.Reload{}, &message.Upgrading{},
		&message.UpgradeFailed{}, &message.Oldest{}, &message.Cut{}, &message.StatusRequest{}, &message.StatusAnswer{},
		&message.AwaitExit{}, &message.Exited{}, &message.Kill{}, &message.Stop{}, &message.Resize{}, &message.Reopen{},
		&message.Reopened{}, &message.Compare{}, &message.Compared{},
	})
}

func TestWorkerRecord(t *testing.T) {
	t.Parallel()
	var sent, got message.WorkerRecord
	wiretest.Fill(reflect.ValueOf(&sent).Elem())
	b, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(sent, got) {
		t.Errorf("sent %+v, got %+v", sent, got)
	}
	if strings.Contains(string(b), "\n") {
		t.Errorf("%q is not one line", b)
	}
}
