package harness

import "os"

// Save puts a file in its place by rename, as editors and installers do.
func Save(path string, content []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", content, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
