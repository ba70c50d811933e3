// Calls the service by the official clients over every wire, and prints what came back as one JSON object.
//
// The first argument is a JSON object: url, grpcUrl, token, organizationId, inexactId (a user whose data holds a number
// that no double is equal to), and names (one for each wire, part of all that must differ between them).
import { NewAuthorizationBearerInterceptor } from "@zitadel/client";
import { createServerTransport } from "@zitadel/client/node";
import { createManagementServiceClient } from "@zitadel/client/v1";
import { createUserServiceClient as createPeopleClient } from "@zitadel/client/v2";
import { createUserSchemaServiceClient, createUserServiceClient } from "@zitadel/client/v3alpha";
import { createClientTransport } from "@zitadel/client/web";
import { createConnectTransport } from "@connectrpc/connect-node";

const given = JSON.parse(process.argv[2]);
const { url: baseUrl, token, organizationId } = given;

const connect = (useBinaryFormat) =>
  createConnectTransport({
    baseUrl,
    httpVersion: "1.1",
    useBinaryFormat,
    interceptors: [NewAuthorizationBearerInterceptor(token)],
  });
const transports = {
  connectJson: connect(false),
  connectBinary: connect(true),
  grpcWeb: createClientTransport(token, { baseUrl }),
  grpc: createServerTransport(token, { baseUrl: given.grpcUrl }),
};

// What an error says: its code, its text and the types of its details.
const failing = (promise) =>
  promise.then(
    () => null,
    ({ code, rawMessage, details = [] }) => ({ code, message: rawMessage, details: details.map(({ type, desc }) => type ?? desc?.typeName) }),
  );
const text = (value) => ({ case: "schema", value });
const returnCode = { case: "returnCode", value: {} };
const organization = { property: { case: "orgId", value: organizationId } };

async function schemas(transport, name) {
  const client = createUserSchemaServiceClient(transport);
  const schema = {
    type: "object",
    required: ["name"],
    properties: { name: { type: "string", minLength: 1 }, age: { type: "integer" }, extra: {} },
  };
  const created = await client.createUserSchema({ userSchema: { type: name, dataType: text(schema), possibleAuthenticators: [1] } });
  const id = created.details.id;
  const taken = await failing(client.createUserSchema({ userSchema: { type: name, dataType: text(schema) } }));
  await client.patchUserSchema({ id, userSchema: { dataType: text({ ...schema, maxProperties: 3 }) } });
  const found = await client.searchUserSchemas({
    filters: [{ Filter: { case: "typeFilter", value: { type: name } } }, { Filter: { case: "stateFilter", value: { state: 1 } } }],
  });
  await client.deactivateUserSchema({ id });
  await client.reactivateUserSchema({ id });
  const got = await client.getUserSchema({ id });
  return { id, created, taken, found, got };
}

async function users(transport, name, schemaId) {
  const client = createUserServiceClient(transport);
  const email = { address: `${name}@example.com`, verification: returnCode };
  const data = { name: "Minnie", age: 7, extra: { half: 0.5, none: null, list: [1, "two", { three: 3 }] } };
  const created = await client.createUser({ organization, user: { schemaId, data, contact: { email } } });
  const id = created.details.id;
  await client.verifyContactEmail({ id, verificationCode: created.emailCode });
  let etag;
  const phone = { number: "+41791234567", verification: { case: "isVerified", value: true } };
  const patched = await client.patchUser(
    { id, user: { data: { name: "Mickey", age: 8 }, contact: { phone } } },
    { onHeader: (headers) => (etag = headers.get("etag")) },
  );
  const set = await client.setContactEmail({ id, email: { address: `new-${name}@example.com`, verification: returnCode } });
  const got = await client.getUser({ id });
  const found = await client.searchUsers({
    query: { limit: 5 },
    sortingColumn: 1,
    filters: [{ Filter: { case: "schemaIdFilter", value: { id: schemaId } } }],
  });
  await client.lockUser({ id, organization });
  const errors = {
    invalid: await failing(client.patchUser({ id, user: { data: { name: "" } } })),
    stale: await failing(client.patchUser({ id, user: { data } }, { headers: { "If-Match": '"1"' } })),
    elsewhere: await failing(client.getUser({ id }, { headers: { "x-zitadel-orgid": "default" } })),
    otherOrganization: await failing(client.lockUser({ id, organization: { property: { case: "orgId", value: "default" } } })),
    unnamed: await failing(client.createUser({ organization, user: { data } })),
    authenticators: await failing(client.createUser({ organization, user: { schemaId, data, authenticators: {} } })),
    notOffered: await failing(client.addUsername({ id, username: { username: "mickey" } })),
    inexact: await failing(client.getUser({ id: given.inexactId })),
    inexactFound: await failing(
      client.searchUsers({ filters: [{ Filter: { case: "userIdFilter", value: { id: given.inexactId } } }] }),
    ),
  };
  await client.deleteUser({ id });
  errors.gone = await failing(client.getUser({ id }));
  return { created, etag, patched, set, got, found, errors };
}

async function people(transport, name) {
  const client = createPeopleClient(transport);
  const created = await client.addHumanUser({
    organization: { org: { case: "orgId", value: organizationId } },
    username: name,
    profile: { givenName: "Minnie", familyName: "Mouse" },
    email: { email: `${name}@mouse.example`, verification: returnCode },
  });
  const userId = created.userId;
  const updated = await client.updateHumanUser({ userId, profile: { givenName: "Minerva", familyName: "Mouse" } });
  const email = await client.setEmail({ userId, email: `${name}@new.example`, verification: returnCode });
  const phone = await client.setPhone({ userId, phone: "+41791234567", verification: returnCode });
  await client.setPassword({ userId, newPassword: { password: "Secret-Passw0rd!", changeRequired: false } });
  await createManagementServiceClient(transport).updateHumanEmail(
    { userId, email: `${name}@v1.example`, isEmailVerified: true },
    { headers: { "x-zitadel-orgid": organizationId } },
  );
  const got = await client.getUserByID({ userId });
  const listed = await client.listUsers({ queries: [{ query: { case: "inUserIdsQuery", value: { userIds: [userId] } } }] });
  const deleted = await client.deleteUser({ userId });
  return { created, updated, email, phone, got, listed, deleted };
}

async function everything(transport, name) {
  const schema = await schemas(transport, name);
  return { schemas: schema, users: await users(transport, name, schema.id), people: await people(transport, name) };
}

const results = {};
for (const [wire, transport] of Object.entries(transports)) {
  results[wire] = await everything(transport, given.names[wire]).catch((error) => ({ failed: String(error.stack ?? error) }));
}
console.log(JSON.stringify(results, (_, value) => (typeof value === "bigint" ? value.toString() : value)));
process.exit(0);
