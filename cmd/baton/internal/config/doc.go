// Package config reads baton's config file: TOML becomes a [File], or [Mistakes] with line, column and what was
// probably meant.
//
// [Parse] does it in three steps, each of which looks at what the one before has let through: the [Index] of where
// every key is, held against the keys that there are (schema.go); decoding; and what single values may be (verify.go, and
// limits.go for numbers). It reads the certificates that the file names, and looks whether users and
// directories are there; it changes nothing.
package config
