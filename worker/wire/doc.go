// Package wire is the vocabulary between masters and workers: the messages, their version and their encoding, and
// nothing that touches a descriptor.
//
// Two releases of baton talk to each other on the day of an upgrade. Hence the rules: every message carries [Version];
// a reader ignores fields that it does not know, and drops messages of a kind that it does not know; a field is never
// reused for another meaning; a reader of a first message refuses another version with both numbers.
//
// The package is importable because both sides need it. It makes no promise of API stability.
package wire
