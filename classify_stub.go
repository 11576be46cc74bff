package provisioner

func classify(lines []string, p []CausePattern) (Cause, string) { return CauseUnknown, "" }
func adviceFor(c Cause) string                                  { return "" }
func (c Cause) Retryable() bool                                 { return false }
