package listen

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// skfAdRandom is the offset at which a classic BPF program finds a random number.
const skfAdRandom = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM

// steerTo makes new connections go to some sockets only of those that share fd's address: the ones at these places in
// the order in which they have listened. When a socket is closed the last one gets its place. Steering takes no
// privilege, and is in force for the next SYN; handshakes that have begun end where they were.
//
//	ld rand
//	mod #len(places)
//	jeq #0, 0, 1; ret #places[0]
//	jeq #1, 0, 1; ret #places[1]
//	…
func steerTo(fd int, places []int) error {
	if len(places) == 0 {
		return fmt.Errorf("steer %s: to no socket", Local(fd))
	}
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdRandom},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(places))},
	}
	for i, p := range places {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(i)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(p)})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: (*unix.SockFilter)(unsafe.Pointer(&prog[0]))}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog); err != nil {
		return fmt.Errorf("steer %s: %w", Local(fd), err)
	}
	return nil
}
