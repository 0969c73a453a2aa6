package master

import "slices"

// warnings are conditions that the admin should look at. A later one replaces an earlier one with the same key: there
// are as many as there are things that can be wrong, however often that is noticed.
type warnings struct {
	keys  []string // in the order in which they were first said
	texts map[string]string
}

// set notes a warning, and reports whether it says anything new.
func (w *warnings) set(key, text string) bool {
	old, ok := w.texts[key]
	if ok && old == text {
		return false
	}
	if !ok {
		w.keys = append(w.keys, key)
	}
	if w.texts == nil {
		w.texts = map[string]string{}
	}
	w.texts[key] = text
	return true
}

// drop ends a warning, and reports whether there was one.
func (w *warnings) drop(key string) bool {
	_, ok := w.texts[key]
	delete(w.texts, key)
	w.keys = slices.DeleteFunc(w.keys, func(k string) bool { return k == key })
	return ok
}

func (w *warnings) list() []string {
	var all []string
	for _, k := range w.keys {
		all = append(all, w.texts[k])
	}
	return all
}
