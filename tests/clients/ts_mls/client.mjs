// End-user clients of MLS groups on ts-mls, driven from Python over JSON lines (tests/clients/ts_mls.py).
//
// One process holds any number of clients; each has its own keys and its own view of one group. A request is
// {"client": name, "do": verb, ...}, bytes are base64; the answer is {"ok": {...}} or {"error": "..."}.
// Commits are PublicMessages and come with a signed GroupInfo of the epoch that they begin, as the draft's
// "m.mls.commit" wants both. A commit changes its maker's group only with "accept", when the hub has taken it.

import { createInterface } from "node:readline"
import {
  createApplicationMessage,
  createCommit,
  createGroup,
  createGroupInfoWithExternalPub,
  createGroupInfoWithExternalPubAndRatchetTree,
  decodeMlsMessage,
  defaultCapabilities,
  emptyPskIndex,
  encodeMlsMessage,
  generateKeyPackageWithKey,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  joinGroupExternal,
  processPrivateMessage,
  processPublicMessage,
} from "ts-mls"

const SUITE = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"
const LAST_RESORT = 10 // the extension type of key packages that may be used again
const cs = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE))
const clients = new Map()

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"))
const text = (data) => Buffer.from(data).toString("base64")
const message = (content) => text(encodeMlsMessage({ version: "mls10", ...content }))

function read(data, wireformat) {
  const [decoded, used] = decodeMlsMessage(bytes(data), 0) ?? []
  if (decoded?.wireformat !== wireformat || used !== bytes(data).length) throw new Error(`not one ${wireformat}`)
  return decoded
}

function members(state) {
  const leaves = state.ratchetTree
    .map((node, index) => ({ node, index }))
    .filter(({ node }) => node?.nodeType === "leaf")
  return Object.fromEntries(leaves.map(({ node, index }) => [index / 2, text(node.leaf.credential.identity)]))
}

const about = (state) => ({ epoch: Number(state.groupContext.epoch), members: members(state) })

async function groupInfo(state, { tree = true }) {
  const make = tree ? createGroupInfoWithExternalPubAndRatchetTree : createGroupInfoWithExternalPub
  return message({ wireformat: "mls_group_info", groupInfo: await make(state, [], cs) })
}

// A made commit waits as `pending` until the hub's word on it.
async function commit(client, proposals, { tree = true }) {
  const made = await createCommit(
    { state: client.state, cipherSuite: cs },
    { wireAsPublicMessage: true, extraProposals: proposals, ratchetTreeExtension: true },
  )
  client.pending = made.newState
  return {
    commit: text(encodeMlsMessage(made.commit)),
    group_info: await groupInfo(made.newState, { tree }),
    welcome: made.welcome && message({ wireformat: "mls_welcome", welcome: made.welcome }),
  }
}

async function keyPackage(client, { not_before, not_after, last_resort = false }) {
  const credential = { credentialType: "basic", identity: client.identity }
  const lifetime = { notBefore: BigInt(not_before), notAfter: BigInt(not_after) }
  const extensions = last_resort ? [{ extensionType: LAST_RESORT, extensionData: new Uint8Array() }] : []
  const capabilities = defaultCapabilities()
  if (last_resort) capabilities.extensions.push(LAST_RESORT)
  return generateKeyPackageWithKey(credential, capabilities, lifetime, extensions, client.keys, cs)
}

const verbs = {
  async new(client) {
    client.keys = await cs.signature.keygen()
    client.packages = []
    return { signature_key: text(client.keys.publicKey) }
  },
  async credential(client, { identity }) {
    client.identity = bytes(identity)
    return {}
  },
  async sign(client, { data }) {
    return { signature: text(await cs.signature.sign(client.keys.signKey, bytes(data))) }
  },
  async key_package(client, options) {
    const made = await keyPackage(client, options)
    client.packages.push(made)
    return { key_package: message({ wireformat: "mls_key_package", keyPackage: made.publicPackage }) }
  },
  async create(client, { group_id, ...lifetime }) {
    const made = await keyPackage(client, lifetime)
    client.state = await createGroup(bytes(group_id), made.publicPackage, made.privatePackage, [], cs)
    return about(client.state)
  },
  async commit(client, { add = [], remove = [], tree }) {
    const adds = add.map((data) => ({
      proposalType: "add",
      add: { keyPackage: read(data, "mls_key_package").keyPackage },
    }))
    const removes = remove.map((removed) => ({ proposalType: "remove", remove: { removed } }))
    return commit(client, [...removes, ...adds], { tree })
  },
  async join_external(client, { group_info, resync = false, tree, ...lifetime }) {
    const made = await keyPackage(client, lifetime)
    const info = read(group_info, "mls_group_info").groupInfo
    const joined = await joinGroupExternal(info, made.publicPackage, made.privatePackage, resync, cs)
    client.pending = joined.newState
    return {
      commit: message({ wireformat: "mls_public_message", publicMessage: joined.publicMessage }),
      group_info: await groupInfo(joined.newState, { tree }),
    }
  },
  async accept(client) {
    client.state = client.pending
    client.pending = undefined
    return about(client.state)
  },
  async discard(client) {
    client.pending = undefined
    return {}
  },
  async process(client, { commit: data }) {
    const { publicMessage } = read(data, "mls_public_message")
    const done = await processPublicMessage(client.state, publicMessage, emptyPskIndex, cs)
    client.state = done.newState
    client.pending = undefined
    return { ...about(client.state), active: client.state.groupActiveState.kind === "active" }
  },
  async join(client, { welcome: data }) {
    const { welcome } = read(data, "mls_welcome")
    let refused = new Error("no key package")
    for (const { publicPackage, privatePackage } of client.packages) {
      try {
        client.state = await joinGroup(welcome, publicPackage, privatePackage, emptyPskIndex, cs)
        return about(client.state)
      } catch (error) {
        refused = error // another of this client's key packages may be the one that was used
      }
    }
    throw refused
  },
  async encrypt(client, { plaintext }) {
    const made = await createApplicationMessage(client.state, bytes(plaintext), cs)
    client.state = made.newState
    return { ciphertext: message({ wireformat: "mls_private_message", privateMessage: made.privateMessage }) }
  },
  async decrypt(client, { ciphertext }) {
    const { privateMessage } = read(ciphertext, "mls_private_message")
    const done = await processPrivateMessage(client.state, privateMessage, emptyPskIndex, cs)
    if (done.kind !== "applicationMessage") throw new Error(`not an application message: ${done.kind}`)
    client.state = done.newState
    return { plaintext: text(done.message) }
  },
}

async function answer(line) {
  try {
    const { client: name, do: verb, ...given } = JSON.parse(line)
    if (verb === "new") clients.set(name, {})
    return { ok: await verbs[verb](clients.get(name), given) }
  } catch (error) {
    return { error: `${error?.name}: ${error?.message}` }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(line)) + "\n")
}
