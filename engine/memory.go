package engine

// GGUFRun is what the memory of a llama.cpp-like engine depends on beside the model. The zero value stands for the
// engine's defaults on the CPU.
type GGUFRun struct {
	Context int // tokens over all slots; 0 means the model's own
	// LeastContext is what the engine shrinks the context to, if need be, where memory lacks; 0 means that it does not.
	LeastContext int
	Slots        int       // requests at once; 0 means 1
	Batch        int       // logical; 0 means the engine's default
	MicroBatch   int       // physical; 0 means the engine's default
	KeyType      string    // of the KV cache, such as "q8_0"; "" means "f16"
	ValueType    string    // as KeyType
	NoFlash      bool      // without flash attention
	KVOnHost     bool      // the KV cache stays in main memory
	FullSWA      bool      // sliding windows have a KV cache of full size
	Layers       int       // on GPUs; negative means all
	Fits         bool      // where the GPUs have no room for all of it, the engine itself leaves some on the host
	Split        string    // over GPUs: "layer", "row" or "none"; "" means "layer"
	MainGPU      int       // the one that takes all where Split is "none"
	Shares       []float64 // of each GPU; nil means by their free memory
	Beside       []string  // files that are loaded, too: draft models, projectors, adapters
	OnHost       []string  // regular expressions; tensors whose names match stay in main memory, whatever Layers says
	// ExpertsOnHost is the number of layers, from the first, whose experts stay in main memory; negative means all.
	ExpertsOnHost int
	Copied        bool // the weights are read into memory of the engine's own; else the file is mapped
	NoRepack      bool // the CPU works with the weights as they are in the file
	Remedies      GGUFRemedies
}

// GGUFRemedies are flags, as a user writes them, with which an engine needs less memory. Where the estimate knows a number
// with which the model would fit, it is told behind them. "" stands for a flag that the engine lacks.
type GGUFRemedies struct {
	Context string // takes the tokens of context over all slots, such as "--ctx-size"
	Layers  string // takes the number of layers on GPUs; "" also for an engine that finds it by itself
	Experts string // takes the number of layers, from the first, whose experts stay in main memory, such as "--n-cpu-moe"
}
