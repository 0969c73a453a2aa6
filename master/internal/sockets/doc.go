// Package sockets makes listening sockets, as raw descriptors that nobody polls: their address, the key under which
// they pass from master to master, binding in preparation and listening after COMMIT.
package sockets
