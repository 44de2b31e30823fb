// Write a stream from Node, with nothing but a socket: node publish.mjs 6379 chat.42
import net from "node:net";

const [address, name] = process.argv.slice(2); // a port of this machine, or the path of a socket
const key = `reprise:{${name}}:log`;
const redis = net.connect(address).setEncoding("utf8");
const generation = Date.now() + 1 + Math.floor(Math.random() * 1000); // one for each run of a writer, never used again
let sequence = 0;

function send(...words) {
  redis.write(`*${words.length}\r\n` + words.map((w) => `$${Buffer.byteLength(w)}\r\n${w}\r\n`).join(""));
}
function emit(type, data, ...end) {
  const fields = ["e", type, "d", JSON.stringify(data), "t", String(Date.now()), ...end];
  send("XADD", key, "MAXLEN", "~", "10000", `${generation}-${sequence++}`, ...fields);
  send("SPUBLISH", `reprise:{${name}}:bell`, ""); // without it, readers learn of the event up to five seconds later
}

for (const word of "Hello from Node, 你好".split(" ")) emit("token", { text: word + " " });
emit("complete", { result: null }, "z", "1");
send("PEXPIRE", key, "86400000"); // for how long the events are kept
send("QUIT");
redis.on("data", (replies) => /^-/m.test(replies) && (console.error(replies), process.exit(1)));
