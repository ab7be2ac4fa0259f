'use strict';
// Preloaded into node2dm, which knows Google's addresses only: leads its requests to the
// benchmark's upstream, with as many connections as the gateway has.
const fs = require('fs');
const https = require('https');

const agent = new https.Agent({keepAlive: true, maxSockets: 64, maxFreeSockets: 64});
const request = https.request;

https.request = function (options, ...rest) {
    const {hostname, port} = new URL(process.env.BENCHMARK_UPSTREAM);
    return request.call(https, Object.assign({}, options, {
        host: hostname, hostname, port, servername: hostname, agent,
        ca: fs.readFileSync(process.env.BENCHMARK_CA),
    }), ...rest);
};
