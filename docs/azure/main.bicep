// What a team's cache needs in Azure: a Managed Redis, a container, a Key Vault with its two keys, and who may do what.
//
//   az group create --name team-cache --location westeurope
//   az deployment group create --resource-group team-cache --template-file main.bicep \
//     --parameters name=teamcache admins='["OBJECT-ID"]' writers='["OBJECT-ID"]'

@description('What all names begin with: 3 to 15 lowercase letters and digits.')
@minLength(3)
@maxLength(15)
param name string

param location string = resourceGroup().location

@description('Object ids of those with the role Cache.Reader.')
param readers array = []

@description('Object ids of those with the role Cache.Writer.')
param writers array = []

@description('Object ids of those with the role Cache.Admin.')
param admins array = []

@description('A subnet for private endpoints. With one, nothing is reached from outside of its network.')
param subnetId string = ''

// privatelink.redis.azure.net, privatelink.blob.core.windows.net and privatelink.vaultcore.azure.net. Not in the string
// below: the linter's no-hardcoded-env-urls takes a host that is named in one for a cloud that is wired in.
@description('The ids of the private DNS zones of that network for Redis, blobs and the vault, in this order.')
param dnsZoneIds array = []

@description('Public addresses that are let in where there is no subnet, such as 203.0.113.0/24; none: all.')
param allowedIps array = []

@description('The size of the Redis.')
param redisSku string = 'Balanced_B0'

var suffix = uniqueString(resourceGroup().id, name)
var isPrivate = !empty(subnetId)
var publicAccess = isPrivate ? 'Disabled' : 'Enabled'
var defaultAction = empty(allowedIps) && !isPrivate ? 'Allow' : 'Deny'

var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1' // Storage Blob Data Reader
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe' // Storage Blob Data Contributor
var keyUser = 'e147488a-f6f5-4113-8e2d-b22465e65bf6' // Key Vault Crypto Service Encryption User
var keySigner = '12338af0-0e69-4776-bea7-57ae8d297424' // Key Vault Crypto User
var keyAdmin = '14b46e9e-c2b7-41b4-b07b-48a6ebf60603' // Key Vault Crypto Officer

resource redis 'Microsoft.Cache/redisEnterprise@2025-07-01' = {
  name: '${name}-${suffix}'
  location: location
  sku: {
    name: redisSku
  }
  properties: {
    minimumTlsVersion: '1.2'
    highAvailability: 'Enabled'
    publicNetworkAccess: publicAccess
  }
}

resource database 'Microsoft.Cache/redisEnterprise/databases@2025-07-01' = {
  parent: redis
  name: 'default'
  properties: {
    clientProtocol: 'Encrypted'
    port: 10000
    clusteringPolicy: 'OSSCluster'
    evictionPolicy: 'VolatileLRU'
    accessKeysAuthentication: 'Disabled'
  }
}

// An assignment made here allows everything. So those of readers and writers are made with an access string, which
// `genai-cache access grant` prints.
resource redisAdmins 'Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments@2025-07-01' = [
  for id in admins: {
    parent: database
    name: replace(id, '-', '')
    properties: {
      accessPolicyName: 'default'
      user: {
        objectId: id
      }
    }
  }
]

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: take('${name}${suffix}', 24)
  location: location
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess
    networkAcls: {
      bypass: 'None'
      defaultAction: defaultAction
      ipRules: [
        for ip in allowedIps: {
          value: ip
          action: 'Allow'
        }
      ]
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'llm-cache'
  properties: {
    publicAccess: 'None'
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: take('${name}-${suffix}', 24)
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    publicNetworkAccess: publicAccess
    networkAcls: {
      bypass: 'None'
      defaultAction: defaultAction
      ipRules: [
        for ip in allowedIps: {
          value: ip
        }
      ]
    }
  }
}

resource wrappingKey 'Microsoft.KeyVault/vaults/keys@2023-07-01' = {
  parent: vault
  name: 'cache-key'
  properties: {
    kty: 'RSA'
    keySize: 3072
    keyOps: [
      'wrapKey'
      'unwrapKey'
    ]
  }
}

resource signingKey 'Microsoft.KeyVault/vaults/keys@2023-07-01' = {
  parent: vault
  name: 'cache-key-sign'
  properties: {
    kty: 'RSA'
    keySize: 3072
    keyOps: [
      'sign'
      'verify'
    ]
  }
}

resource readsBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in readers: {
    name: guid(container.id, id, blobReader)
    scope: container
    properties: {
      principalId: id
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobReader)
    }
  }
]

resource writesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in union(writers, admins): {
    name: guid(container.id, id, blobContributor)
    scope: container
    properties: {
      principalId: id
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
    }
  }
]

resource unwraps 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in union(readers, writers): {
    name: guid(vault.id, id, keyUser)
    scope: vault
    properties: {
      principalId: id
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyUser)
    }
  }
]

resource signs 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in admins: {
    name: guid(vault.id, id, keySigner)
    scope: vault
    properties: {
      principalId: id
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keySigner)
    }
  }
]

resource makesKeys 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for id in admins: {
    name: guid(vault.id, id, keyAdmin)
    scope: vault
    properties: {
      principalId: id
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyAdmin)
    }
  }
]

var reached = [
  {
    name: 'redis'
    id: redis.id
    part: 'redisEnterprise'
  }
  {
    name: 'blob'
    id: storage.id
    part: 'blob'
  }
  {
    name: 'vault'
    id: vault.id
    part: 'vault'
  }
]

var reachedPrivately = isPrivate ? reached : []
var zonesUsed = isPrivate ? dnsZoneIds : []

resource endpoints 'Microsoft.Network/privateEndpoints@2024-01-01' = [
  for one in reachedPrivately: {
    name: '${name}-${one.name}'
    location: location
    properties: {
      subnet: {
        id: subnetId
      }
      privateLinkServiceConnections: [
        {
          name: one.name
          properties: {
            privateLinkServiceId: one.id
            groupIds: [
              one.part
            ]
          }
        }
      ]
    }
  }
]

resource zones 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-01-01' = [
  for (zone, number) in zonesUsed: {
    name: '${name}-${reached[number].name}/default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: reached[number].name
          properties: {
            privateDnsZoneId: zone
          }
        }
      ]
    }
    dependsOn: [
      endpoints
    ]
  }
]

output l2 string = 'rediss+cluster://${redis.properties.hostName}:10000,${storage.properties.primaryEndpoints.blob}llm-cache'
output key_vault_url string = vault.properties.vaultUri
