package sockets

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// skfAdRandom is the offset at which a classic BPF program finds a random number.
const skfAdRandom = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM

// Steer makes new connections go to the first n sockets only of the group that fd belongs to: those that have listened
// first.
func Steer(fd, n int) error { return SteerFrom(fd, 0, n) }

// SteerFrom makes new connections go to n sockets only of the group that fd belongs to, from the one on that has listened
// after base others. It takes no privilege, and is in force for the next SYN; handshakes that have begun end where they
// were.
//
//	ld rand
//	mod #n
//	add #base
//	ret a
func SteerFrom(fd, base, n int) error {
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfAdRandom},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K, K: uint32(base)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: (*unix.SockFilter)(unsafe.Pointer(&prog[0]))}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog); err != nil {
		return fmt.Errorf("steer %s: %w", Local(fd), err)
	}
	return nil
}
