// Package render writes what a scheduler or another service manager needs to run the replicas of a pools file: batch scripts of
// Slurm, files of Compose, and Quadlet units of Podman. The package kubernetes below does it for clusters.
//
// The command calls it, and whoever makes such files in Go. It starts nothing, looks at no file but the header of a model that is
// here, and gives equal texts for equal files. What cannot work there is an error that names the pool and the way; what could not be
// carried over stands in comments.
package render

// File is one that is rendered.
type File struct {
	Name string `json:"name"` // such as "chat.sbatch"
	Text string `json:"text"`
}
