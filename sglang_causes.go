package provisioner

// sglangCauses are the dying words of SGLang, most specific first. A failed start ends by SIGKILL of its own, so that
// the log alone tells why; testdata/sglang/logs holds the words in full.
var sglangCauses = []CausePattern{
	pythonLibMissing,
	pythonPortInUse,
	{CauseBadFlag, anyOf(
		`error: unrecognized arguments`, `error: argument `, `error: ambiguous option`, `error: the following arguments are required`,
		`User-specified context_length .* is greater than the derived context_length`, `context_length .* (is greater|longer) than`,
		`must be divisible by tp_size`, `tp_size.*(is larger|must be)`,
	)},
	pythonModelMissing,
	pythonModelCorrupt,
	{CauseOOMGPU, anyOf(
		pythonOOMGPU, `Not enough memory\. Please try to (increase|reduce)`, `Capture cuda graph failed: .*out of memory`,
		`The memory capacity is unbalanced`,
	)},
	pythonOOMHost,
	pythonDriver,
}

var sglangAdvice = map[Cause]string{
	CauseOOMGPU: "free GPU memory, or use a smaller model, a smaller context (--context-length), more GPUs (devices) or another share (--mem-fraction-static)",
}
