package main

import (
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	opgenesis "github.com/ethereum-optimism/optimism/op-chain-ops/genesis"
	"github.com/ethereum-optimism/optimism/op-core/forks"
	"github.com/ethereum-optimism/optimism/op-service/eth"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

const (
	l2GasLimit = 30_000_000
	// Seconds after genesis: multiples of every block time there is.
	isthmusAfter, jovianAfter = 4, 8
	// Beside this program, where deploy/setup/peers.sh puts it.
	allocsName = "../share/l2-allocs.json.gz"
)

func writeL2(args []string) error {
	flags := flag.NewFlagSet("genesis l2", flag.ExitOnError)
	out := flags.String("out", ".", "directory to write to")
	chain := flags.Uint64("chain", 0, "id of the chain")
	blockTime := flags.Uint64("block-time", 2, "seconds between two blocks: 1, 2 or 4")
	l1Hash := flags.String("l1-hash", "", "hash of L1 block 0")
	l1Time := flags.Uint64("l1-time", 0, "timestamp of L1 block 0; L2 block 0 has the same")
	allocs := flags.String("allocs", "", "gzipped dump of the predeploys (default: "+allocsName+" from this program)")
	batchers, funded := addresses{}, addresses{}
	flags.Var(&batchers, "batcher", "account that posts the chain's batches")
	flags.Var(&funded, "fund", "accounts that get a million ETH, separated by commas")
	if err := parse(flags, args); err != nil {
		return err
	}
	batcher, err := batchers.only("batcher")
	if err != nil {
		return err
	}
	hash, err := hashOf(*l1Hash)
	if err != nil {
		return err
	}
	if *chain == 0 || *blockTime == 0 || isthmusAfter%*blockTime != 0 {
		return fmt.Errorf("-chain %d -block-time %d: want a chain id, and 1, 2 or 4 seconds", *chain, *blockTime)
	}
	predeploys, err := readAllocs(*allocs)
	if err != nil {
		return err
	}

	deploy := deployConfig(*chain, *blockTime, batcher)
	start := &eth.BlockRef{Hash: hash, Number: 0, Time: *l1Time}
	// Not BuildL2Genesis: it insists that Permit2's chain id immutable is that of the dump's chain. Permit2 itself notices
	// another chain id and computes its domain separator anew.
	genesis, err := opgenesis.NewL2Genesis(deploy, start)
	if err != nil {
		return err
	}
	for address, account := range predeploys {
		genesis.Alloc[address] = account
	}
	fund(genesis.Alloc, funded)
	rollup, err := deploy.RollupConfig(start, genesis.ToBlock().Hash(), 0)
	if err != nil {
		return err
	}
	if err := rollup.Check(); err != nil {
		return err
	}
	if err := write(*out, "genesis.json", genesis); err != nil {
		return err
	}
	return write(*out, "rollup.json", rollup)
}

func deployConfig(chain, blockTime uint64, batcher common.Address) *opgenesis.DeployConfig {
	config := &opgenesis.DeployConfig{}
	config.L1ChainID = l1ChainID
	config.L2ChainID = chain
	config.L2BlockTime = blockTime
	config.MaxSequencerDrift = 1800
	config.SequencerWindowSize = 3600
	config.ChannelTimeoutBedrock = 300
	config.BatchInboxAddress = batchInbox(chain)
	config.BatchSenderAddress = batcher
	config.OptimismPortalProxy = portal(chain)
	config.SystemConfigProxy = systemConfig(chain)
	config.L2GenesisBlockGasLimit = l2GasLimit
	config.GasPriceOracleBaseFeeScalar = 1368 // these five are OP Mainnet's
	config.GasPriceOracleBlobBaseFeeScalar = 810949
	config.EIP1559Denominator = 250
	config.EIP1559DenominatorCanyon = 250
	config.EIP1559Elasticity = 6
	config.ActivateForkAtGenesis(forks.Holocene)
	isthmus, jovian := uint64(isthmusAfter), uint64(jovianAfter)
	config.SetForkTimeOffset(forks.Isthmus, &isthmus)
	config.SetForkTimeOffset(forks.Jovian, &jovian)
	return config
}

func hashOf(text string) (common.Hash, error) {
	var hash common.Hash
	if err := hash.UnmarshalText([]byte(text)); err != nil {
		return hash, fmt.Errorf("-l1-hash %q: %w", text, err)
	}
	return hash, nil
}

func readAllocs(path string) (types.GenesisAlloc, error) {
	if path == "" {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(filepath.Dir(program), allocsName)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var allocs types.GenesisAlloc
	if err := json.NewDecoder(plain).Decode(&allocs); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return allocs, nil
}
