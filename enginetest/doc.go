// Package enginetest provides a scriptable fake inference engine for tests.
//
// The fake is the test binary run again, so nothing has to be built or downloaded, and it starts in milliseconds. It
// speaks like llama.cpp's llama-server (build b11669): the same routes, bodies, status codes, log lines, exit codes
// and reactions to signals. Another [Profile] makes it a vLLM, an SGLang, a TGI or a plain web server instead, with
// that engine's command line and process tree. A [Behavior] makes it misbehave in the ways that real engines were seen to.
//
// A test package that uses it needs a TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(enginetest.Run(m)) }
//
// and then, in a test:
//
//	path := enginetest.Install(t, enginetest.Behavior{LoadTime: 200 * time.Millisecond})
//	port := enginetest.FreePort(t, 1)
//	cmd := exec.Command(path, "--model", "m.gguf", "--port", strconv.Itoa(port), "--metrics")
//
// The path is an executable called llama-server, or as the profile's engine is, good for "provisioning.binary.path".
// While it runs, GET /__fake answers what the engine knows of itself ([Report], [Inspect]): its argv, environment, open
// files, processes and the signals that it got.
//
// Every engine and every child of one carries a cookie of the test process on its command line. [Run] fails the test
// binary when one of them is still alive at the end ([Leftovers]), and kills it. Beyond that, a fake engine ends by itself after
// ten minutes and a child of one after five, so that even a killed test leaves nothing for ever.
//
// The package works on Linux and other Unix systems. What needs Linux says so.
package enginetest
