package enginetest

// GGUF is the content of the smallest file that passes for a model of llama.cpp: a header that announces nothing. The
// fake engine never reads its model, but a provisioner looks at the header before the start.
const GGUF = "GGUF\x03\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00"
