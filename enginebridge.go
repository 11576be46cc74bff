package provisioner

import "github.com/llama-orch/engine-provisioner/engine"

//go:fix inline
type Program = engine.Program

//go:fix inline
type Release = engine.Release

//go:fix inline
type ModelKind = engine.ModelKind

//go:fix inline
type Binary = engine.Binary

//go:fix inline
type Host = engine.Host

//go:fix inline
type LaunchSpec = engine.LaunchSpec

//go:fix inline
type Port = engine.Port

//go:fix inline
type Field = engine.Field

//go:fix inline
type MetricsContract = engine.MetricsContract

//go:fix inline
type Gauges = engine.Gauges

//go:fix inline
type Counters = engine.Counters

//go:fix inline
type GGUFRemedies = engine.GGUFRemedies

//go:fix inline
type GGUFRun = engine.GGUFRun

//go:fix inline
type AnswerRequest = engine.AnswerRequest

//go:fix inline
type CausePattern = engine.CausePattern

//go:fix inline
type Cause = engine.Cause

//go:fix inline
type Flag = engine.Flag

//go:fix inline
type Origin = engine.Origin

//go:fix inline
type FlagSet = engine.FlagSet

//go:fix inline
type FlagDef = engine.FlagDef

//go:fix inline
type Image = engine.Image

//go:fix inline
type GPU = engine.GPU

//go:fix inline
const ModelFile = engine.ModelFile

//go:fix inline
const ModelGGUF = engine.ModelGGUF

//go:fix inline
const ModelFolder = engine.ModelFolder

//go:fix inline
const ModelAny = engine.ModelAny

//go:fix inline
const TempDirPlaceholder = engine.TempDirPlaceholder

//go:fix inline
const OriginConfig = engine.OriginConfig

//go:fix inline
const OriginDefault = engine.OriginDefault

//go:fix inline
const OriginProvisioner = engine.OriginProvisioner

//go:fix inline
const CauseModelMissing = engine.CauseModelMissing

//go:fix inline
const CauseModelCorrupt = engine.CauseModelCorrupt

//go:fix inline
const CauseBadFlag = engine.CauseBadFlag

//go:fix inline
const CauseLibMissing = engine.CauseLibMissing

//go:fix inline
const CauseDriver = engine.CauseDriver

//go:fix inline
const CauseBuildFailed = engine.CauseBuildFailed

//go:fix inline
const CauseBadAddress = engine.CauseBadAddress

//go:fix inline
const CausePortForbidden = engine.CausePortForbidden

//go:fix inline
const CauseUnauthorized = engine.CauseUnauthorized

//go:fix inline
const CausePortInUse = engine.CausePortInUse

//go:fix inline
const CauseDownload = engine.CauseDownload

//go:fix inline
const CauseOOMGPU = engine.CauseOOMGPU

//go:fix inline
const CauseOOMHost = engine.CauseOOMHost

//go:fix inline
const CauseCannotAnswer = engine.CauseCannotAnswer

//go:fix inline
const CauseUnknown = engine.CauseUnknown
