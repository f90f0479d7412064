package main

import (
	"math/big"

	"github.com/ethereum-optimism/optimism/op-node/rollup/derive"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
)

// Where a chain's contracts are on L1: a byte that says which, zeros, and the chain id.
func portal(chain uint64) common.Address       { return numbered(0x11, chain) }
func systemConfig(chain uint64) common.Address { return numbered(0x22, chain) }
func batchInbox(chain uint64) common.Address   { return numbered(0xff, chain) }

func numbered(kind byte, chain uint64) common.Address {
	address := common.BigToAddress(new(big.Int).SetUint64(chain))
	address[0] = kind
	return address
}

// PortalCode emits TransactionDeposited(from = caller, to, version = 0, opaqueData) for whoever calls it: the log that
// op-node makes a deposit of. Call data: `to` as a word, then the ABI encoding of opaqueData (offset 32, length, bytes),
// where opaqueData is mint (32 bytes), value (32), gas limit (8), whether it creates (1), data.
func portalCode() []byte {
	// CALLDATACOPY(0, 32, calldatasize-32); push 0, calldata[0], caller
	code := common.FromHex("602036038060206000376000600035337f")
	code = append(code, derive.DepositEventABIHash[:]...)
	return append(code, common.FromHex("846000a400")...) // LOG4(0, calldatasize-32, ..); STOP
}

// SystemConfigCode emits ConfigUpdate(version, updateType, data) for whoever calls it. Call data: version and updateType as
// words, then the ABI encoding of data.
func systemConfigCode() []byte {
	topic := crypto.Keccak256Hash([]byte("ConfigUpdate(uint256,uint8,bytes)"))
	code := common.FromHex("604036038060406000376020356000357f")
	code = append(code, topic[:]...)
	return append(code, common.FromHex("836000a300")...) // LOG3(0, calldatasize-64, ..); STOP
}
