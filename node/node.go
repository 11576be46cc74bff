// Package node answers questions about one host: what there is to run engines, and how a service manager of the host runs them.
//
// Commands and daemons call it; package provisioner does not. It starts, stops and changes nothing that runs.
package node
