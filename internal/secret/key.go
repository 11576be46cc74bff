package secret

// First is the secret that a reference names, which is the name of a variable or else the path of a file: of the keys in a file,
// which has one a line, the first one.
func First(fromEnv, fromFile string) (Text, error) {
	if fromFile == "" {
		return FromEnv(fromEnv)
	}
	keys, err := KeysFromFile(fromFile)
	if err != nil {
		return Text{}, err
	}
	return keys.First(), nil
}
