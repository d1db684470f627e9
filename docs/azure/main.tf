# What a team's cache needs in Azure: a Managed Redis, a container, a Key Vault with its two keys, and who may do what.
#
#   terraform init
#   terraform apply -var name=teamcache -var 'admins=["OBJECT-ID"]' -var 'writers=["OBJECT-ID"]'

terraform {
  required_version = ">= 1.5"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.60, < 6.0"
    }
  }
}

provider "azurerm" {
  storage_use_azuread = true
  features {}
}

variable "name" {
  description = "What all names begin with: 3 to 15 lowercase letters and digits."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9]{3,15}$", var.name))
    error_message = "Write 3 to 15 lowercase letters and digits."
  }
}

variable "location" {
  type    = string
  default = "westeurope"
}

variable "readers" {
  description = "Object ids of those with the role Cache.Reader."
  type        = set(string)
  default     = []
}

variable "writers" {
  description = "Object ids of those with the role Cache.Writer."
  type        = set(string)
  default     = []
}

variable "admins" {
  description = "Object ids of those with the role Cache.Admin."
  type        = set(string)
  default     = []
}

variable "subnet_id" {
  description = "A subnet for private endpoints. With one, nothing is reached from outside of its network."
  type        = string
  default     = null
}

variable "dns_zone_ids" {
  description = "The private DNS zones of that network, by their ids: of redis, blob and vault."
  type        = map(string)
  default     = {}
}

variable "allowed_ips" {
  description = "Public addresses that are let in where there is no subnet, such as 203.0.113.0/24; none: all."
  type        = list(string)
  default     = []
}

variable "redis_sku" {
  type    = string
  default = "Balanced_B0"
}

data "azurerm_client_config" "current" {}

locals {
  suffix         = substr(sha256("${azurerm_resource_group.cache.id}/${var.name}"), 0, 8)
  is_private     = var.subnet_id != null
  default_action = local.is_private || length(var.allowed_ips) > 0 ? "Deny" : "Allow"
  endpoints = {
    redis = { id = azurerm_managed_redis.cache.id, part = "redisEnterprise" }
    blob  = { id = azurerm_storage_account.cache.id, part = "blob" }
    vault = { id = azurerm_key_vault.cache.id, part = "vault" }
  }
}

resource "azurerm_resource_group" "cache" {
  name     = "${var.name}-cache"
  location = var.location
}

resource "azurerm_managed_redis" "cache" {
  name                  = "${var.name}-${local.suffix}"
  resource_group_name   = azurerm_resource_group.cache.name
  location              = azurerm_resource_group.cache.location
  sku_name              = var.redis_sku
  public_network_access = local.is_private ? "Disabled" : "Enabled"

  default_database {
    access_keys_authentication_enabled = false
    client_protocol                    = "Encrypted"
    clustering_policy                  = "OSSCluster"
    eviction_policy                    = "VolatileLRU"
  }
}

# An assignment made here allows everything. So those of readers and writers are made with an access string, which
# `genai-cache access grant` prints.
resource "azurerm_managed_redis_access_policy_assignment" "admins" {
  for_each         = var.admins
  managed_redis_id = azurerm_managed_redis.cache.id
  object_id        = each.value
}

resource "azurerm_storage_account" "cache" {
  name                            = "${var.name}${local.suffix}"
  resource_group_name             = azurerm_resource_group.cache.name
  location                        = azurerm_resource_group.cache.location
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  shared_access_key_enabled       = false
  allow_nested_items_to_be_public = false
  public_network_access_enabled   = !local.is_private

  network_rules {
    default_action = local.default_action
    bypass         = ["None"]
    ip_rules       = var.allowed_ips
  }
}

resource "azurerm_storage_container" "cache" {
  name                  = "llm-cache"
  storage_account_id    = azurerm_storage_account.cache.id
  container_access_type = "private"
}

resource "azurerm_key_vault" "cache" {
  name                          = substr("${var.name}-${local.suffix}", 0, 24)
  resource_group_name           = azurerm_resource_group.cache.name
  location                      = azurerm_resource_group.cache.location
  tenant_id                     = data.azurerm_client_config.current.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  public_network_access_enabled = !local.is_private

  network_acls {
    default_action = local.default_action
    bypass         = "None"
    ip_rules       = var.allowed_ips
  }
}

# Whoever applies this makes the keys, and needs the role for it at the vault.
resource "azurerm_role_assignment" "makes_keys_now" {
  scope                = azurerm_key_vault.cache.id
  role_definition_name = "Key Vault Crypto Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_key_vault_key" "wrapping" {
  name         = "cache-key"
  key_vault_id = azurerm_key_vault.cache.id
  key_type     = "RSA"
  key_size     = 3072
  key_opts     = ["wrapKey", "unwrapKey"]
  depends_on   = [azurerm_role_assignment.makes_keys_now]
}

resource "azurerm_key_vault_key" "signing" {
  name         = "cache-key-sign"
  key_vault_id = azurerm_key_vault.cache.id
  key_type     = "RSA"
  key_size     = 3072
  key_opts     = ["sign", "verify"]
  depends_on   = [azurerm_role_assignment.makes_keys_now]
}

resource "azurerm_role_assignment" "reads_blobs" {
  for_each             = var.readers
  scope                = azurerm_storage_container.cache.id
  role_definition_name = "Storage Blob Data Reader"
  principal_id         = each.value
}

resource "azurerm_role_assignment" "writes_blobs" {
  for_each             = setunion(var.writers, var.admins)
  scope                = azurerm_storage_container.cache.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = each.value
}

resource "azurerm_role_assignment" "unwraps" {
  for_each             = setunion(var.readers, var.writers)
  scope                = azurerm_key_vault.cache.id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = each.value
}

resource "azurerm_role_assignment" "signs" {
  for_each             = var.admins
  scope                = azurerm_key_vault.cache.id
  role_definition_name = "Key Vault Crypto User"
  principal_id         = each.value
}

resource "azurerm_role_assignment" "makes_keys" {
  for_each             = setsubtract(var.admins, [data.azurerm_client_config.current.object_id])
  scope                = azurerm_key_vault.cache.id
  role_definition_name = "Key Vault Crypto Officer"
  principal_id         = each.value
}

resource "azurerm_private_endpoint" "cache" {
  for_each            = { for name, one in local.endpoints : name => one if local.is_private }
  name                = "${var.name}-${each.key}"
  resource_group_name = azurerm_resource_group.cache.name
  location            = azurerm_resource_group.cache.location
  subnet_id           = var.subnet_id

  private_service_connection {
    name                           = each.key
    private_connection_resource_id = each.value.id
    subresource_names              = [each.value.part]
    is_manual_connection           = false
  }

  dynamic "private_dns_zone_group" {
    for_each = contains(keys(var.dns_zone_ids), each.key) ? [var.dns_zone_ids[each.key]] : []
    content {
      name                 = each.key
      private_dns_zone_ids = [private_dns_zone_group.value]
    }
  }
}

output "l2" {
  value = "rediss+cluster://${azurerm_managed_redis.cache.hostname}:10000,${azurerm_storage_account.cache.primary_blob_endpoint}${azurerm_storage_container.cache.name}"
}

output "key_vault_url" {
  value = azurerm_key_vault.cache.vault_uri
}
