// Command baton-chat is a chat room that survives its own reloads and upgrades: the smallest protocol on worker.TCP.
//
//	go run ./cmd/baton-chat 127.0.0.1:7000
//	nc 127.0.0.1 7000
//
// A line that you type is said to everybody. An empty line shows what was said.
package main

import (
	"bufio"
	"context"
	"io"
	"os"

	"baton/master"
	"baton/worker"
)

func main() { os.Exit(master.Main(worker.TCP{Process: worker.ProcessFunc(chat)}, os.Args[1:]...)) }

func chat(_ context.Context, c *worker.Conn) {
	for lines := bufio.NewReader(c); ; {
		if lines.Buffered() == 0 {
			c.Idle() // between two lines the connection may move to the next generation
		}
		line, err := lines.ReadSlice('\n')
		if err != nil || answer(c, line) != nil {
			return
		}
	}
}

// answer keeps the room in a file, which all workers of all generations have in common.
func answer(c io.Writer, line []byte) error {
	room, err := os.OpenFile("chat.txt", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = room.Close() }()
	if line[0] > '\r' { // it is not an empty one
		_, err = room.Write(line)
	} else {
		_, err = io.Copy(c, room)
	}
	return err
}
