// Package node answers questions about one host: which engines and GPUs it has, whether it can run engines, what provisioning
// has brought there, and how its service manager runs them.
//
// Commands and daemons call it, before and beside what they do with package provisioner, which does not know it. It starts
// nothing but executables that are asked for their version, removes nothing but what [PruneCache] is told to, and changes
// nothing that runs.
package node
