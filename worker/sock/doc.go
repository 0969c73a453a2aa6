// Package sock has TCP as package net has it, and cheaper where many connections come.
//
// A [Listener] whose socket several processes share wakes one of those that wait, and they take turns. Package net wakes all
// of them for each connection. What package net sets on every connection is set on the listening socket here, once: the
// kernel passes it on.
//
// A [Conn] is a connection without what package net asks the kernel about it beforehand.
package sock
