package provisioner

import "path/filepath"

func (c ProvisionConfig) Validate(opts ...Option) error         { return nil }
func (c ProvisionConfig) configError(p ...Problem) *ConfigError { return &ConfigError{Problems: p} }
func (c ProvisionConfig) modelPath() (string, error)            { return c.resolve(c.Model.ID), nil }
func (c ProvisionConfig) resolve(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.Dir, p)
}
func (c ProvisionConfig) Name() string                        { return c.PoolID + "/" + c.ReplicaID }
func (c ProvisionConfig) fileStem() string                    { return c.PoolID + "-" + c.ReplicaID }
func LoadConfig(path string, opts ...Option) (*Config, error) { return nil, nil }

func (c ProvisionConfig) locate(err error) error { return err }

func (p Provisioning) mode() string { return "binary" }
