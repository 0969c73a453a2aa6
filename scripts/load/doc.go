// Package load is a load generator that tells the truth about a server's restarts: it never retries, sends POSTs,
// compares every body, and counts each way to fail apart.
//
// net/http's client would hide what it is for: its Transport repeats a GET on another connection when a kept one has
// been closed under it. So this one speaks HTTP/1.1 by itself, and every connection and every failure is counted.
//
//	report := load.Run(ctx, load.Config{Target: "127.0.0.1:8080", Classes: load.Mix(4, 16, 16)})
//	fmt.Println(report)
//
// [Protocols] are clients that speak something else: lines, datagrams, WebSockets, and HTTP/2 by net/http's client
// after all, for which its repeats are what a server may rely on.
//
// A client is one of a [Class]; a class is a name and a function that does one turn, a request or a dialogue of some.
// When the context ends, each client finishes the turn that it is in: nothing is cut by the generator itself.
//
// What is a failure: a connection refused or reset, an end of the connection that no `Connection: close` has
// announced, an answer that is short, malformed, or not what was asked for, a status of 500 and above, a connection
// that took more than a second to be made (its SYN was lost), and silence: within the timeout neither an answer nor
// an end of the connection. A connection that nobody owns any more is silent only when it is used, so clients of
// class aged have theirs idle for up to [Config.MaxIdle], and each asks once more when the run ends.
package load
