package master

// MaxWorkers is the most workers that a configuration or a resize may ask for: each is a process.
const MaxWorkers = 1024
